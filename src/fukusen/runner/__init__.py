"""Where compute meets memory: plan minus store is work; on this machine."""

from fukusen.runner.items import items_of
from fukusen.runner.local import Ran, run
from fukusen.runner.referring import reference_of
from fukusen.runner.staking import stakes_of
from fukusen.runner.verdict import Ended, verdict_of
from fukusen.twins import Progress

__all__ = ["Ended", "Progress", "Ran", "items_of", "reference_of", "run", "stakes_of", "verdict_of"]
