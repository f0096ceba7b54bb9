"""Train and fuse two models on data that ships with scikit-learn."""
