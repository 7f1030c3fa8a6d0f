"""Lineage from records alone: who is an ancestor, who is not, and what is said of what can't be found."""

import pytest

from stages.tracking import journal, lineage
from stages.tracking.records import REPRODUCTION, ModelVersion, Records, Run, periods

BACKBONE, MODEL, REPORT = "b1.dir", "m1.dir", "r1"
IMAGENET, CELLS = "imagenet1.dir", "cells1.dir"


def run(stage, key, started, deps=(), outs=(), tags=(), datasets=()):
    return Run(
        id=f"{stage}-{key}-{started}",
        experiment="1",
        stage=stage,
        key=key,
        started=started,
        seconds=1.0,
        deps=dict(deps),
        outs=dict(outs),
        datasets=dict(datasets),
        params={},
        metrics={},
        tags=dict(tags),
        artifacts="",
    )


def version(number, created, model_hash=MODEL, aliases=(), **changed):
    facts = {
        "name": "cells",
        "number": number,
        "created": created,
        "status": "READY",
        "run_id": "register",
        "model_hash": model_hash,
        "report_hash": REPORT,
        "dataset": "cells",
        "dataset_hash": CELLS,
        "commit": "c0ffee",
        "tags": {},
        "aliases": tuple(aliases),
        "held": (),
    }
    return ModelVersion(**{**facts, **changed})


def pretrain(started="01", **more):
    return run("pretrain", "resnet", started, {"data/imagenet": IMAGENET}, {"models/resnet": BACKBONE}, **more)


def finetune(started="02", data=CELLS, **more):
    deps = {"data/cells": data, "models/resnet": BACKBONE, "reports/validate/cells.passed": "same everywhere"}
    return run("finetune", "cells", started, deps, {"models/cells": MODEL}, **more)


def evaluate(started="03"):
    deps = {"data/cells": CELLS, "models/cells": MODEL, "models/resnet": BACKBONE}
    return run("evaluate", "cells", started, deps, {"reports/evaluate/cells.json": REPORT})


VALIDATE = run("validate", "cells", "00", {"data/cells/index": "i1.dir"}, {}, datasets={"cells": CELLS})


def records(*runs, versions=()):
    return Records(tuple(sorted(runs, key=lambda r: r.started)), tuple(versions))


def ids(graph, kind):
    return {node.id for node in graph.nodes.values() if node.kind == kind}


def test_ancestors_go_through_the_backbone_to_its_data():
    top = version("1", "04", aliases=["champion"])
    graph = lineage.ancestors(records(VALIDATE, pretrain(), finetune(), evaluate(), versions=[top]), top)
    assert ids(graph, "run") == {"validate-cells-00", "pretrain-resnet-01", "finetune-cells-02", "evaluate-cells-03"}
    assert ids(graph, "dataset") == {f"data:imagenet@{IMAGENET}", f"data:cells@{CELLS}"}
    assert ids(graph, "alias") == {"model:cells@champion"}
    assert ("finetune-cells-02", "pretrain-resnet-01") in graph.edges
    assert ("pretrain-resnet-01", f"data:imagenet@{IMAGENET}") in graph.edges
    # Only the check of imagenet is missing; the mark that all validations share ties nothing together.
    assert [note.split(" for ")[0] for note in graph.notes] == ["no finished run of validate@imagenet"]


def test_the_ancestor_is_the_newest_that_began_before():
    top = version("1", "05")
    graph = lineage.ancestors(records(pretrain(), finetune("02"), finetune("03"), finetune("09"), evaluate("04")), top)
    made = {run_id for run_id in ids(graph, "run") if run_id.startswith("finetune")}
    assert made == {"finetune-cells-03"}
    assert graph.nodes["finetune-cells-03"].facts["same outputs by runs"] == ["finetune-cells-02", "finetune-cells-09"]


def test_a_reproduction_is_an_ancestor_only_where_nothing_else_is():
    again = finetune("03", tags={REPRODUCTION: "cells/1"})
    assert [r.id for r in lineage.makers(records(finetune("02"), again), MODEL)] == ["finetune-cells-02"]
    assert [r.id for r in lineage.makers(records(again), MODEL)] == ["finetune-cells-03"]


def test_what_made_a_model_and_is_gone_is_named():
    top = version("1", "05")
    graph = lineage.ancestors(records(evaluate()), top)
    assert ids(graph, "missing") == {f"missing:models/cells@{MODEL}", f"missing:models/resnet@{BACKBONE}"}
    assert any("models/resnet with hash b1.dir" in note for note in graph.notes)
    nothing = lineage.ancestors(records(), top)
    assert ids(nothing, "dataset") == {f"data:cells@{CELLS}"}  # the version's own tags tell of it


def test_descendants_of_a_backbones_data_are_the_models_on_top_of_it():
    champion = version("1", "04", aliases=["champion"])
    other = version("2", "05", model_hash="elsewhere", report_hash="other")
    known = records(VALIDATE, pretrain(), finetune(), evaluate(), versions=[champion, other])
    graph = lineage.descendants(known, "imagenet", IMAGENET)
    assert ids(graph, "version") == {"model:cells/1"}
    assert ids(graph, "alias") == {"model:cells@champion"}
    assert ids(graph, "run") == {"pretrain-resnet-01", "finetune-cells-02", "evaluate-cells-03"}
    assert ids(lineage.descendants(known, "imagenet", "another"), "version") == set()


def test_trained_on_unites_all_runs_that_made_the_same_weights():
    top = version("1", "05")
    known = records(pretrain(), finetune("02"), finetune("03", data="cells2.dir"))
    assert {(t.dataset, t.hash, t.via) for t in lineage.trained_on(known, top)} == {
        ("cells", CELLS, ""),
        ("cells", "cells2.dir", ""),
        ("imagenet", IMAGENET, "models/resnet"),
    }


def test_trained_on_remembers_by_tag_what_deleted_runs_read():
    noted = version("1", "05", tags={"visionline.trained_on": f'[["cells", "{CELLS}"], ["imagenet", "{IMAGENET}"]]'})
    assert [(t.dataset, t.via) for t in lineage.trained_on(records(), noted)] == [
        ("cells", ""),
        ("imagenet", "its backbone"),
    ]


@pytest.mark.parametrize(("number", "expected"), [("1", [("t1", "t2"), ("t3", None)]), ("2", [("t2", "t3")])])
def test_periods_of_a_champion(number, expected):
    written = [
        journal.Entry(1, "t1", "first", "1", None, "ada"),
        journal.Entry(2, "t2", "promote", "2", "1", "ada"),
        journal.Entry(3, "t3", "rollback", "1", "2", "bob"),
    ]
    assert [(period["from"], period["until"]) for period in periods(written, number)] == expected
