"""Whether a task leaves the registry nothing to do, told from what is known of it, without MLflow."""

from stages.tracking import registry
from stages.tracking.records import Records


def is_settled(known: Records, name: str, is_automatic: bool) -> bool:
    """Whether its model as it lies here is registered, with a card, and challenger, and its gate has spoken.

    False also when the journal names another champion than the alias: somebody died between the two.
    """
    contents, versions = registry.contents(name), known.of(name)
    same = [version for version in versions if (version.model_hash, version.report_hash) == contents]
    if not same or registry.CARD not in same[-1].tags or registry.CHALLENGER not in same[-1].aliases:
        return False
    present = (registry.CHAMPION, None)
    champions = [v for v in versions for period in v.held if (period["alias"], period["until"]) == present]
    is_judged = champions == [same[-1]] or registry.DECISION in same[-1].tags
    return len(champions) == 1 and (is_judged or not is_automatic)
