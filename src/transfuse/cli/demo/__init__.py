"""The whole story on real data that ships with scikit-learn."""
