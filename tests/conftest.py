"""Tests run on one thread; what several of them take."""

from collections.abc import Callable, Iterator

import pytest
import torch
from cases import Case

from transfuse.config import options
from transfuse.distillation import training_state
from transfuse.network.families.undeclared import UNALIGNED

torch.set_num_threads(1)
REPRESENTATIVE = (  # one model of each structure; the other families repeat what these prove
    "ViTForImageClassification",
    "BertForMaskedLM-tie_word_embeddings",
    "GPT2LMHeadModel-tie_word_embeddings",
    "LlamaForCausalLM",
    "Qwen3MoeForCausalLM",
)
RELATIVES = (  # the longer proofs of close relatives of other families are slow; QUICK ones run for every family
    *("DeiT", "DINOv3", "Dinov2WithRegisters", "Siglip"),
    *("XLMRoberta", "Camembert", "DistilBert", "Electra", "Albert", "MPNet", "DebertaV2", "Bart", "MBart", "Whisper"),
    *("Mistral", "Mixtral", "Qwen2", "Phi", "Gemma", "Olmo", "Granite", "SmolLM3"),
    *("Starcoder2", "GPTJ", "StableLm", "Cohere", "Falcon"),
    *("GptOss", "Qwen3Next", "Qwen3_5", "ViTMAE", "Marian"),
)
REPEATED = (  # tests of seconds that are slow for every other model than these
    "test_proofs.py::test_recovery[both",
    "test_proofs.py::test_recovery[activations",
    "test_proofs.py::test_mutation",
    "test_proofs.py::test_saved_and_reloaded[exact",
    "test_proofs.py::test_saved_and_reloaded[flow",
    "test_function_check.py::test_a_function_that_stays_is_not",
    "test_widths.py::test_a_hard_flow_doubles_and_halves_exactly",
    "test_widths.py::test_the_anchors_shape_comes_out",
    "test_canonical_form.py::test_a_rescaled_copy_is_recovered",
    "test_stream.py::test_streaming_is_fusing_in_memory_bit_for_bit",
    "test_carry.py::test_to_a_symmetric_copy_it_is_exact",
    "test_learned_weights.py::test_a_broken_model_comes_nearer_in_every_family",
    "test_learned_weights.py::test_a_model_that_is_what_its_parents_are_stays",
    "test_least_squares.py::test_a_model_with_itself_stays_as_it_is",
    "test_least_squares.py::test_a_layer_is_fitted_in_every_family",
    "test_fit_precision.py::test_a_layer_is_fitted_in_mixed_precision_in_every_family",
    "test_exact.py::test_what_was_widened_comes_back",
)
ONLY_HERE = (  # not slow: no representative has two stacks or towers, branches side by side, or such norms
    *("test_a_function_that_stays_is_not[T5ForConditionalGeneration1", "test_mutation[GPTNeoX"),
    *("test_a_hard_flow_doubles_and_halves_exactly[weights-Gemma2", "test_a_layer_is_fitted_in_every_family[CLIP"),
    "test_a_layer_is_fitted_in_every_family[DebertaV2ForMaskedLM]",
)
SLOW = (  # words in the names of tests that show for another model, method or precision what others show already
    ("test_every_kind_comes_nearer_to_its_parents", "sequence to sequence"),
    ("test_every_kind_comes_nearer_to_its_parents", "images and texts"),
    ("test_every_kind_comes_nearer_to_its_parents", "multi-label"),
    ("test_the_fusion_is_that_of_equal_orders", "-False]"),
    ("test_a_function_that_changes_is_refused[exact-from_files", "Llama"),
    ("test_a_function_that_changes_is_refused", "from_files-T5"),
    ("test_a_function_that_changes_is_refused[none", "GPT2"),
    ("test_mapped_is_loaded_bit_for_bit", "llama-learned"),
    ("test_so_it_is_in_other_precisions_and_with_three", "exact, activations-torch.float64"),
    ("test_learned_weights_are_better_than_the_mean_and_nearer_to_the_parents_than_fitted_ones", "score"),
    ("test_so_it_is_in_other_precisions_and_with_three", "least squares-torch.bfloat16"),
    ("test_with_samples[learned-True]",),
    ("test_cut_short_anywhere_it_goes_on[learned weights]",),
    ("test_cut_short_anywhere_it_goes_on[hard flow]",),
    ("test_cut_short_anywhere_it_goes_on[least squares]",),
    ("test_cut_short_anywhere_it_goes_on[streamed",),
    ("test_the_wide_model_teaches_as_it_is",),
    ("test_streams_are_what_brings_it_back",),
    ("test_with_samples[learned-False]",),
    ("test_no_image_is_examined_twice[options1]",),
    *(("test_growing_with_a_copy_keeps_the_function", name) for name in ("Qwen", "GPTNeoX", "Gemma2ForCausalLM-2.0")),
    *(("test_growing_with_a_copy_keeps_the_function", name) for name in ("BertForMaskedLM-2.0", "embeddings-2.0")),
    *(("test_mapped_is_loaded_bit_for_bit", name) for name in ("vit-none", "bert-none", "gpt2-none", "moe-learned")),
    *(("test_mapped_is_loaded_bit_for_bit", name) for name in ("bert-exact", "gpt2-exact", "bert-flow")),
    *(("test_mapped_is_loaded_bit_for_bit", name) for name in ("llama-least", "vit-least", "qwen3-moe-none")),
    *(("test_mapped_is_loaded_bit_for_bit", name) for name in ("qwen3-moe-exact", "vit-exact", "gpt2-least")),
    ("test_settings_of_the_caller_change_no_result[float64_by_default]",),
    ("test_carry.py::test_a_new_base_of_another_width_is_taught",),
    ("test_so_it_is_in_other_precisions_and_with_three", "exact, activations-torch.bfloat16"),
    ("test_learned_kinds.py::test_embeddings_come_nearer_to_their_mean[clip]",),
    ("test_the_student_says_what_who_is_believed_says[labels]",),
    ("test_shrink_resume.py::test_cut_short_anywhere_it_goes_on[a narrower stream]",),
    ("test_where_little_is_gained_layers_are_fitted_as_without[0.01",),
    ("test_without_a_base_it_is_the_difference_from_the_anchor[gpt2]",),
    ("test_nothing_is_left[flow]",),
    ("test_examples.py::test_an_extension",),
    ("test_resume.py::test_cut_short_anywhere_it_goes_on[exact]",),
    ("test_shrink_resume.py::test_cut_short_anywhere_it_goes_on[the choice of sizes]",),
    ("test_settings_of_the_caller_change_no_result[autocast]",),
    ("test_memory_limit.py::test_a_command_is_bounded_before_it_begins[10000000TB",),
    ("test_as_pot_in_double_precision[0.02",),
    ("test_padded_vocabulary.py::test_with_samples[learned]",),
    ("test_depth.py::test_texts_and_checkpoints[options1]",),
)
LONG = (  # tests of seconds that repeat, for another method or shell, what a shorter one shows
    "test_resume.py::test_cut_short_anywhere_it_goes_on[flow]",
    "test_fuse.py::test_a_run_that_was_killed_goes_on_where_it_was[what0",
    "test_learned_weights.py::test_a_run_that_was_cut_short_ends_as_one_that_was_not",
    "test_completion.py::test_commands_flags_and_values[zsh]",
    "test_completion.py::test_commands_flags_and_values[fish]",
    "test_languages.py::test_fused_measured_walked_and_tuned[flow",
)
QUICK = (  # tests of a second or less
    "test_proofs.py::test_folding_and_balancing",
    "test_proofs.py::test_symmetry",
    "test_proofs.py::test_what_is_called_inert",
    "test_proofs.py::test_completeness",
    "test_proofs.py::test_recovery[weights",
    "test_proofs.py::test_a_carried_source",
    "test_proofs.py::test_widening",
    "test_proofs.py::test_saved_and_reloaded[none",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that only repeat, for one more family or method, what another test shows."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        cases = [value for value in parameters.params.values() if isinstance(value, Case)] if parameters else []
        is_other = any(case.name not in REPRESENTATIVE for case in cases)
        is_relative = any(case.name.startswith(RELATIVES) for case in cases)
        if is_other or _is_among(LONG, item):
            item.add_marker(pytest.mark.ci)
        repeats = (is_relative and not _is_among(QUICK, item)) or (is_other and _is_among(REPEATED, item))
        is_named = any(all(word in item.nodeid for word in words) for words in SLOW)
        if is_named or (repeats and not _is_among(ONLY_HERE, item)):
            item.add_marker(pytest.mark.slow)


def _is_among(names: tuple[str, ...], item: pytest.Item) -> bool:
    return any(name in item.nodeid for name in names)


@pytest.fixture(autouse=True)
def no_training_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit layers where no merge method is chosen. Training takes longer; tests that are about it choose it."""
    monkeypatch.setattr(options, "AUTO_MERGE", "least-squares")


@pytest.fixture(autouse=True)
def no_undeclared_classes() -> Iterator[None]:
    """Forget which classes a test merged without a declaration."""
    yield
    UNALIGNED.clear()


@pytest.fixture
def cut_short(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Runs a descent that is cut short once it has saved its state."""
    save_state = training_state.save_state

    class CutError(Exception):
        pass

    def cut(path: object, state: object) -> None:
        save_state(path, state)  # type: ignore[arg-type]
        raise CutError

    def run(learn: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(training_state, "save_state", cut)
            with pytest.raises(CutError):
                learn()

    return run
