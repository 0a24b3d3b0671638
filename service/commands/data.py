"""The commands of `mobilenas data`: check and get."""

import json
from pathlib import Path
from typing import Literal

from search.problems import nas_bench_macro
from service.terminal.console import console, say
from service.terminal.logs import telling
from service.terminal.rows import show
from service.terminal.wording import counted
from space.errors import DataError
from space.paths import expanded
from trainer.data.check import DataCheck, check_folder, quantiles
from trainer.data.contact_sheet import check_sheet_name, draw_contact_sheet
from trainer.data.prepare import IMAGE_FOLDER, SHOWN_DAMAGED
from trainer.data.sources import cache_dir, find_cifar10, find_fashion_mnist

SHOWN_GROUPS = 10


# So many times as many pictures in one class as in another are worth a word.
_UNEVEN = 3.0


def check(path: Path, form: Literal["table", "json"], contact_sheet: Path | None = None) -> None:
    """Print what a folder of photos holds, and draw some of them.

    Raises:
        DataError: nothing can be trained on it as it is; everything has been printed.
    """
    root = expanded(str(path).removeprefix(IMAGE_FOLDER))
    if contact_sheet is not None:
        contact_sheet = expanded(contact_sheet)
        check_sheet_name(contact_sheet)
    with telling(quiet=form == "json") as listener:
        listener.begin(f"decoding the pictures of {root}", 1)
        found = check_folder(root, listener.advance)
        listener.end()
    if form == "json":
        say(json.dumps(_plain(found), indent=2))
    else:
        _print(found)
    if contact_sheet is not None:
        rows = draw_contact_sheet(found.files, contact_sheet)
        shown = "all classes" if rows == len(found.files) else f"the {rows} smallest classes"
        say(f"contact sheet of {shown}: {contact_sheet}", quiet=form == "json")
    if found.refusal is not None:
        raise DataError(found.refusal)
    if found.damaged:
        raise DataError(
            f"{counted(len(found.damaged), 'picture')} of {root} cannot be read; replace or remove them, or go on "
            "without them: --skip-damaged"
        )


def _plain(found: DataCheck) -> dict[str, object]:
    groups = {
        name: [[str(path) for path in group] for group in getattr(found, name)]
        for name in ("across_splits", "across_classes")
    }
    return {
        "folder": str(found.root),
        "images": found.images,
        "kinds": dict(found.kinds),
        "left_out": list(found.left_out),
        "damaged": {str(path): reason for path, reason in found.damaged.items()},
        "shorter_side_px": quantiles([min(size) for size in found.sizes]) if found.sizes else None,
        "longer_side_px": quantiles([max(size) for size in found.sizes]) if found.sizes else None,
        **groups,
        "repeated": found.repeated,
        "look_alike": [
            {"files": list(map(str, each.paths)), "splits": each.splits, "classes": each.classes}
            for each in found.alike
        ],
        "imbalance": found.imbalance,
        "refusal": found.refusal,
    }


def _print(found: DataCheck) -> None:
    rows = [
        {"class": name, **{split: counts.get(split, 0) for split in found.splits}}
        for name, counts in found.images.items()
    ]
    say(f"folder       {found.root}")
    show("pictures per class", rows, "table", shown=("class", *found.splits), types={})
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.most_common())
    say(f"pictures     {len(found.sizes):,} can be read: {kinds or 'none'}")
    if found.sizes:
        shorter, longer = (quantiles([side(size) for size in found.sizes]) for side in (min, max))
        say(
            f"sizes        shorter side {shorter[0]:,} to {shorter[2]:,} px, median {shorter[1]:,}; longer side "
            f"{longer[0]:,} to {longer[2]:,} px, median {longer[1]:,}"
        )
    say(f"not used     {', '.join(found.left_out) or 'nothing'}")
    _print_groups("in several splits", found.across_splits, "top-1 there is learnt by heart; keep each in one split")
    _print_groups("in several classes", found.across_classes, "nobody can tell them apart; keep each in one class")
    if found.repeated:
        say(f"duplicates   {found.repeated:,} pictures are there once more in their own class and split")
    _print_alike(found)
    total = {name: sum(counts.values()) for name, counts in found.images.items()}
    if found.sizes:
        most = max(total, key=total.__getitem__)
        say(f"balance      the largest class, {most}, has {total[most] / sum(total.values()):.1%} of the pictures")
        if found.imbalance >= _UNEVEN:
            say(
                f"             {found.imbalance:,.0f} times as many as the smallest: look at balanced accuracy, and "
                "let classes weigh alike (training.balance: sampling, or loss)"
            )
    say(f"damaged      {len(found.damaged):,}")
    for reason in list(found.damaged.values())[:SHOWN_DAMAGED]:
        say(f"  {reason}")
    if len(found.damaged) > SHOWN_DAMAGED:
        say(f"  … and {len(found.damaged) - SHOWN_DAMAGED:,} more")


def _print_alike(found: DataCheck) -> None:
    if not found.alike:
        return
    in_splits, in_classes = (sum(getattr(group, name) > 1 for group in found.alike) for name in ("splits", "classes"))
    say(
        f"look alike   {counted(len(found.alike), 'group')} of pictures, such as the same one saved again or smaller; "
        f"{in_splits:,} of them in several splits, {in_classes:,} in several classes"
    )
    worst = sorted(found.alike, key=lambda group: (-group.splits - group.classes, group.paths))
    for group in worst[:SHOWN_GROUPS]:
        say(f"  {' ~ '.join(map(str, group.paths))}")
    if len(worst) > SHOWN_GROUPS:
        say(f"  … and {len(worst) - SHOWN_GROUPS:,} more")


def _print_groups(where: str, groups: list[list[Path]], advice: str) -> None:
    if not groups:
        return
    say(f"duplicates   {counted(len(groups), 'picture')} {where}: {advice}")
    for group in groups[:SHOWN_GROUPS]:
        say(f"  {' = '.join(map(str, group))}")
    if len(groups) > SHOWN_GROUPS:
        say(f"  … and {len(groups) - SHOWN_GROUPS:,} more")


def get(name: Literal["fashion-mnist", "cifar10", "nas-bench-macro"], data_dir: Path | None) -> None:
    """Fetch a published data set into the cache, and print where it is.

    Raises:
        DataError: it is not here and cannot be fetched; the message says what to put where.
    """
    cache = cache_dir()
    with console.status(f"looking for {name}, and fetching it if it is nowhere"):
        if name == "fashion-mnist":
            files = find_fashion_mnist(data_dir, cache)
        elif name == "cifar10":
            files = (find_cifar10(data_dir, cache),)
        else:
            files = (nas_bench_macro.find(data_dir, cache),)
    for file in files:
        say(str(file))
