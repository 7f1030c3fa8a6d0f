"""Stage `register KEY`: bring the registry in line with models/KEY and its report."""

import json
import sys
from pathlib import Path

from stages.params import document
from stages.tracking.process import stage_main

NUM_TRIAL_IMAGES = 3


def register(key: str) -> None:
    """Point `challenger` at the version that holds models/KEY, which is registered first when there is none.

    A new version counts only after it was loaded in a process of its own and answered for images of the test split.
    A version without a model card gets one; RuntimeError when it can't be made, which leaves the version as it is.
    """
    from stages.tracking import journal, registry

    champion = registry.aliases(key).get(registry.CHAMPION)
    hashes = registry.contents(key)
    known = registry.find(key, *hashes)
    version = str(known.version) if known else _new_version(key, hashes)
    given = journal.welcome(key, version)
    state = f"registered as version {version}" if known is None else f"is version {version} already"
    print(f"{key} {state}" + (f", now {' and '.join(given)}" if given else ""), flush=True)
    if known is None or registry.CARD not in known.tags:
        _add_card(key, version, champion)


def _add_card(key: str, version: str, champion: str | None) -> None:
    from stages.tracking import card

    try:
        print(f"model card: {card.add(key, version, champion)}")
    except Exception as error:  # whatever it is, the version stands
        raise RuntimeError(
            f"version {version} is registered, but its model card can't be made: {type(error).__name__}: {error}; "
            "the next run tries again"
        ) from error


def _new_version(key: str, hashes: tuple[str, str]) -> str:
    from stages.data import pointers
    from stages.data.dataset import Dataset
    from stages.data.samples import StoredImages
    from stages.tracking import registry
    from stages.tracking.runs import stage_run

    params = document.task_params(key)
    trained_on = pointers.trained_on(pointers.locked_stages(), f"finetune@{key}", hashes[0])
    with stage_run("register", key) as run:
        run.log_dataset(params.dataset, "testing")
        address = registry.log_model(run.run_id, key, Path("models") / key, registry.signature(params.takes_boxes))
        dataset = Dataset(Path("data") / params.dataset)
        stored = StoredImages(dataset, "test")
        images = [stored.image(i).data for i in range(min(NUM_TRIAL_IMAGES, len(stored)))]
        answers = registry.answers(address, images)
        if len(answers) != len(images):
            raise RuntimeError(f"{address} gave {len(answers)} answers for {len(images)} images")
        metrics = json.loads(Path(f"reports/evaluate/{key}.json").read_text(encoding="utf8"))
        main = metrics["main_metric"]
        tags = {
            registry.MODEL_HASH: hashes[0],
            registry.REPORT_HASH: hashes[1],
            "visionline.dataset": params.dataset,
            "visionline.dataset_hash": pointers.pointer_hash(Path("data") / f"{params.dataset}.dvc") or "",
            registry.TEST_SET: dataset.split_hash("test"),
            registry.TRAINED_ON: json.dumps(trained_on),
            main: f"{metrics['after'][main]:.4f}",
            "git.commit": run.commit,
        }
        return registry.create_version(key, address, run.run_id, tags)


if __name__ == "__main__":
    stage_main({"register": register}, sys.argv[1:])
