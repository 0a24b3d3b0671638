"""The evaluations of a search: how a network is judged on each of its stages."""

from dataclasses import dataclass, replace

from search.config.load import RunConfig
from search.evaluation.data import Data, Images
from search.evaluation.job import Evaluation, OwnEvaluation, Training
from search.plan import compute_device
from search.plugins import Plugin
from space.arch import Architecture
from trainer.training.networks import DeviceKind
from trainer.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """What a configuration makes of the data; the user's own evaluator is the one that it was in the beginning."""

    config: RunConfig
    data: Data
    compute_device: DeviceKind
    evaluator_content: str

    @classmethod
    def of_run(cls, config: RunConfig, data: Data) -> "Evaluations":
        """Those of a search that begins or goes on; later edits of the user's own evaluator are not looked at."""
        return cls(
            config=config,
            data=data,
            compute_device=compute_device(config),
            evaluator_content="" if config.own_evaluator is None else _plugin(config).content,
        )

    def following(self, config: RunConfig) -> "Evaluations":
        """The same by a configuration that was changed."""
        return replace(self, config=config)

    @property
    def images(self) -> Images:
        """The images of a search that trains."""
        assert isinstance(self.data, Images), "where there are no images nothing is trained"
        return self.data

    def of(
        self,
        arch: Architecture,
        recipe: Recipe | None,
        *,
        train_images: int | None,
        parent_key: str | None = None,
        is_final: bool = False,
        on_whole_split: bool = False,
    ) -> Evaluation:
        """The evaluation of an architecture in this search: by the user's own evaluator where there is one.

        Without a recipe the weights of the parent are judged as they are. The final networks are always trained, and
        judged on the whole reward split, as others are who get far.
        """
        if not is_final and self.config.own_evaluator is not None:
            return OwnEvaluation(architecture=arch, evaluator=_plugin(self.config), content=self.evaluator_content)
        settings = self.config.data
        return Training(
            architecture=arch,
            data=self.images.use(
                reward_fraction=settings.reward_fraction,
                split_seed=settings.split_seed,
                train_images=train_images,
                reward_images=len(self.images.splits.reward) if is_final or on_whole_split else settings.reward_images,
                balanced=settings.rank_by == "balanced",
            ),
            recipe=recipe,
            # One seed for all: networks start from like weights and see the same images in the same order, so that
            # their differences are the networks'.
            seed=self.config.training.seed,
            parent_key=parent_key,
            device=self.compute_device,
            processes=self.config.final_processes if is_final and recipe is not None else 1,
        )

    def proxy(self, arch: Architecture) -> Evaluation:
        """The short training of the block-level search, or a look at the weights that a supernet has for a network."""
        if self.config.supernet is None:
            return self.of(arch, self.config.proxy_recipe, train_images=self.config.train_images)
        judged = self.of(arch, None, train_images=None, parent_key=self.config.supernet_hash)
        assert isinstance(judged, Training)
        return replace(judged, shares=True)


def _plugin(config: RunConfig) -> Plugin:
    assert config.own_evaluator is not None
    return Plugin(name=config.own_evaluator, folder=config.plugins)
