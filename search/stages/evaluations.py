"""The evaluations of a search: how a network is judged on each of its stages."""

from dataclasses import dataclass, replace

from search.config.load import RunConfig
from search.evaluation.data import Data, Images
from search.evaluation.job import Evaluation, OwnEvaluation, Training
from search.plan import compute_device
from search.plugins import Plugin
from space.arch import Architecture
from space.choices import SearchSpace
from trainer.training.networks import DeviceKind
from trainer.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """What a configuration makes of the data; the user's own evaluator is the one that it was in the beginning."""

    config: RunConfig
    data: Data
    space: SearchSpace
    compute_device: DeviceKind
    evaluator_content: str

    @classmethod
    def of_run(cls, config: RunConfig, data: Data, space: SearchSpace) -> "Evaluations":
        """Those of a search that begins or goes on; later edits of the user's own evaluator are not looked at."""
        return cls(
            config=config,
            data=data,
            space=space,
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
        judged on the whole reward split, as others are who get far. In a race that has a supernet, trainings of its
        members begin with its weights. In a search that was given weights the reference begins with those, and all that
        do not inherit begin with the reference, and learn from it. What is narrowed from a given network learns from
        that, where it is to.
        """
        if not is_final and self.config.own_evaluator is not None:
            return OwnEvaluation(architecture=arch, evaluator=_plugin(self.config), content=self.evaluator_content)
        settings = self.config.data
        anew = is_final and self.config.final.weights == "scratch"
        shares = parent_key is None and self.config.races and not anew and self.has_shared(arch)
        adapts = parent_key is None and self.config.init_hash is not None
        begins_all = adapts and arch == self.space.reference
        teacher_key = None if recipe is None or self.config.teacher is None else self.config.teacher.weights
        if shares:
            parent_key = self.config.supernet_hash
        elif adapts:
            start = None if begins_all else self.start
            parent_key = self.config.init_hash if start is None else start.key
            teacher_key = None if start is None or recipe is None else start.key
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
            shares=shares,
            adapts=adapts,
            teacher_key=teacher_key,
            device=self.compute_device,
            processes=self.config.final_processes if is_final and recipe is not None else 1,
            refits=self.images.folds > 1 and recipe is not None and (is_final or begins_all),
        )

    @property
    def start(self) -> Evaluation | None:
        """The fine-tuning of the reference that all others begin with, if they do."""
        recipe = self.config.start_recipe
        return None if recipe is None else self.of(self.space.reference, recipe, train_images=None, on_whole_split=True)

    def has_shared(self, arch: Architecture) -> bool:
        """Whether the supernet of the search, if it has one, holds weights for a network."""
        return self.config.supernet is not None and arch in self.space

    def proxy(self, arch: Architecture) -> Evaluation:
        """The short training of the block-level search, or a look at the weights that a supernet has for a network."""
        if not self.config.looks_first:
            return self.of(arch, self.config.proxy_recipe, train_images=self.config.train_images)
        judged = self.of(arch, None, train_images=None, parent_key=self.config.supernet_hash)
        assert isinstance(judged, Training)
        return replace(judged, shares=True)


def _plugin(config: RunConfig) -> Plugin:
    assert config.own_evaluator is not None
    return Plugin(name=config.own_evaluator, folder=config.plugins)
