"""What a training took, from a report and from MLflow."""

from stages.tracking import cost, records, store

LORA = {"adaptation": {"mode": "lora", "rank": 8}, "trainable_percent": 3.1416}


def test_in_words():
    metrics = {"training_s": 35.4, "peak_memory_mib": 812.3, "loss": 1.0}
    assert cost.in_words(LORA, metrics) == "lora: 3.14 % of the parameters trained, 35 s, 812 MiB at most"
    assert cost.in_words(LORA, {}) == "lora: 3.14 % of the parameters trained"
    full = {"adaptation": {"mode": "full"}, "trainable_percent": 100.0}
    assert cost.in_words(full, {"training_s": 0.6}) == "full: 100 % of the parameters trained, 1 s"


def run(seconds, digest, is_finished=True):
    """A run that made the model sorts."""
    client = store.client()
    tags = {"visionline.stage": "finetune", "visionline.key": "sorts", "dvc.out.models/sorts": digest}
    run_id = client.create_run(store.experiment_id(), tags=tags).info.run_id
    client.log_metric(run_id, "training_s", seconds)
    if is_finished:
        client.set_terminated(run_id, "FINISHED")


def test_the_newest_run_that_made_the_weights_is_asked(mlflow_project):
    for seconds, digest in ((1.0, "aa"), (2.0, "bb"), (3.0, "aa"), (4.0, "cc")):
        run(seconds, digest)
    run(5.0, "aa", is_finished=False)
    assert cost.asked_metrics("sorts", "aa") == {"training_s": 3.0}
    assert cost.asked_metrics("sorts", "dd") == {} == cost.asked_metrics("other", "aa")
    known = records.read()
    assert cost.known_metrics(known, "aa") == {"training_s": 3.0}
    assert cost.known_metrics(known, "dd") == {} == cost.known_metrics(None, "aa")
