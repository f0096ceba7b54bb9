"""Define and register a family of your own: a residual network on pixels and its declaration."""

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from transfuse import Builder, Group, register


class ResidualConfig(PreTrainedConfig):
    model_type = "residual_mlp"
    image_size: int = 8
    num_channels: int = 1
    hidden_size: int = 24
    intermediate_size: int = 48


class ResidualForImageClassification(PreTrainedModel):
    config_class = ResidualConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Linear(config.num_channels * config.image_size**2, config.hidden_size)
        self.norm = torch.nn.LayerNorm(config.hidden_size)
        self.up = torch.nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = torch.nn.Linear(config.intermediate_size, config.hidden_size)
        self.last = torch.nn.LayerNorm(config.hidden_size)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, pixel_values, **rest):
        x = self.embed(pixel_values.flatten(1))
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return ImageClassifierOutput(logits=self.classifier(self.last(x)))


def residual(config):
    s = Builder("residual_mlp")
    x, mlp = s.free("embed", config.hidden_size), s.free("mlp", config.hidden_size)
    hidden = s.free("hidden", config.intermediate_size)
    scaled = hidden * s.free("scale", 1, Group.POSITIVE, within=hidden)  # a ReLU's units may be scaled
    s.linear("embed", s.fixed("pixel", config.num_channels * config.image_size**2), x)
    s.linear("up", s.norm("norm", x), scaled)
    s.linear("down", scaled, mlp)
    s.linear("classifier", s.norm("last", s.join("sum", x, mlp)), s.fixed("class", config.num_labels))
    return s.build()


register(ResidualForImageClassification, residual)
