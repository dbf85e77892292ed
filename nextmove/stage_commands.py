"""`nextmove foretell`: the model that says in which stage of a journey a customer will be."""

from typing import Annotated

import typer

from nextmove.console import next_command, print_json, print_table, step
from nextmove.options import AsJson, Data, Dataset, Mapping, dataset_options, now_utc, settings_of


def foretell(
    dataset: Dataset = None,
    data: Data = None,
    mapping: Mapping = None,
    seed: Annotated[int, typer.Option(help="Of everything random in training.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Learn in which stage of a journey customers will be, and let rules and models know.

    For journeys with a `horizon`: customer.chance_of_<stage>. Services take it up by themselves.

    Example: nextmove foretell --dataset simulated
    """
    import msgspec

    from nextmove import steps
    from training.next_stage import learn_stages

    settings = settings_of(dataset, data, mapping)
    steps.open_home(settings)
    catalog = steps.released(settings).everywhere
    with step("foretell") as progress:
        found = learn_stages(settings, catalog, now=now_utc(), seed=seed, progress=progress)
        progress.result = f"{len(found.stages)} stages, run {found.run_id}"
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    print_table(
        "On the latest quarter, which it did not learn from",
        ("what", "value"),
        [
            ("log loss", found.log_loss),
            ("log loss of the shares by current stage", found.log_loss_of_shares),
            ("calibration error", found.calibration_error),
        ],
    )
    for stage, why in found.left_out.items():
        typer.echo(f"{stage} is not foretold: {why}")
    if not found.served:
        typer.echo("it knows no more than the shares do, so services go on as they were")
    next_command(f"nextmove train {dataset_options(settings)}")
