"""What is said of a class without a declaration: which ones of its kind have one, or which part of it does."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from kinds import tokenizer
from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3Processor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

import transfuse
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.errors import SpecError
from transfuse.network.families import declare
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import with_tensors
from transfuse.network.symmetry import fold, symmetric

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
TEXT = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 13, "num_hidden_layers": 2, "num_attention_heads": 6,
        "num_key_value_heads": 3, "head_dim": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
VISION = {"hidden_size": 12, "intermediate_size": 9, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8,
          "patch_size": 4}  # fmt: skip
IMAGE_TOKEN = 39
TOKENS = {"mm_tokens_per_image": 4, "image_token_index": IMAGE_TOKEN, "boi_token_index": 38, "eoi_token_index": 37}


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        ("OPTForCausalLM", r"supported decoders .*: \w+ForCausalLM, "),
        ("AlbertForSequenceClassification", r"supported encoders of texts .*BertForMaskedLM"),
        ("SwinForImageClassification", r"supported image models .*ForImageClassification"),
        ("SegformerForSemanticSegmentation", r"supported image models .*ForImageClassification"),
        ("PegasusForConditionalGeneration", r"supported encoder-decoders .*T5ForConditionalGeneration"),
        ("WhisperForConditionalGeneration", "no audio models are"),
        ("AltCLIPModel", r"supported models of images and texts .*CLIPModel"),
        ("BertForMultipleChoice", r"supported classes of the same model: BertFor"),
        ("LlavaForConditionalGeneration", r"its language model can be fused as LlamaForCausalLM, and docs/families"),
        ("Gemma3ForConditionalGeneration", r"its language model can be fused as Gemma3ForCausalLM"),
        ("Qwen3_5ForConditionalGeneration", r"its language model is a Qwen3_5ForCausalLM, but .*linear_attention"),
    ],
)
def test_classes_of_the_same_kind_are_named(architecture, told):
    if architecture in transfuse.network.families.FAMILIES:
        pytest.skip("it is supported by now")
    with pytest.raises(SpecError, match=told):
        declare(getattr(transformers, architecture).config_class(), architecture)


def test_the_page_that_is_named_has_this_section():
    assert "## Language models inside multimodal checkpoints" in PAGE.read_text()


def test_language_models_are_fused_as_the_page_shows(tmp_path, monkeypatch):
    """Fused with a copy in another basis and put back, the language model still reads what the image tower writes."""
    section = PAGE.read_text().partition("## Language models inside")[2].partition("\n## ")[0]
    taken_out, put_back = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=TEXT, vision_config=VISION, **TOKENS)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained("A")
    words = tokenizer()
    special = {"image_token": "<image>", "boi_token": "<begin>", "eoi_token": "<end>"}
    words = type(words)(tokenizer_object=words.backend_tokenizer, extra_special_tokens=special)
    Gemma3Processor(Gemma3ImageProcessorPil(size={"height": 8, "width": 8}), words).save_pretrained("A")
    shutil.copytree("A", "B")
    exec(taken_out, {})
    text = Gemma3ForCausalLM.from_pretrained("B-text").double()
    declared = declare(text.config, "Gemma3ForCausalLM")
    spec = symmetric(unfused(declared))
    tensors = fold(spec, dict(split_fused(declared, text.state_dict())))
    with_tensors(text, transform_all(spec, tensors, random_alignment(spec, 1))).float().save_pretrained("B-text")
    transfuse.fuse(["A-text", "B-text"]).save("fused-text")
    exec(put_back, {})
    ids = torch.randint(3, 37, (1, 10))
    ids[:, 2:6] = IMAGE_TOKEN
    inputs = {"input_ids": ids, "pixel_values": torch.randn(1, 3, 8, 8), "token_type_ids": (ids == IMAGE_TOKEN).long()}
    fused = Gemma3ForConditionalGeneration.from_pretrained("fused").eval()
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(fused(**inputs).logits, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)
