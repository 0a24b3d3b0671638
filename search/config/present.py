"""What a configuration says of the model that its user has at present."""

from typing import Self

from pydantic import Field, model_validator

from search.config.paths import whole_path
from search.config.sections import ConfigSection

IMAGENET_NAME = "imagenet"
"""How pictures are usually taken by networks that were trained on ImageNet, or from such."""


class PresentConfig(ConfigSection):
    """The user's present model, and what its file does not say; `sha256` is that of the copy in the run folder."""

    model: str | None
    labels: str | None
    preprocess: str | None
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _is_of_a_model(self) -> Self:
        for name, value in (("labels", self.labels), ("preprocess", self.preprocess), ("sha256", self.sha256)):
            if self.model is None and value is not None:
                raise ValueError(f"{name} is said of present.model; name that, or leave it out")
        return self

    def check_untested(self) -> None:
        """Refuse a model where there are no pictures to test it on."""
        if self.model is not None:
            raise ValueError("present.model is tested on pictures, and data.source none has none; leave it out")

    def from_anywhere(self) -> Self:
        """The same with whole paths."""
        named = {"model": self.model, "labels": self.labels}
        if self.preprocess != IMAGENET_NAME:
            named["preprocess"] = self.preprocess
        return self.model_copy(
            update={key: whole_path(value, "present model") for key, value in named.items() if value is not None}
        )
