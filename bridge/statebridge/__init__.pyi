from .actions import capacity as capacity
from .actions import capture as capture
from .actions import doctor as doctor
from .actions import fit as fit
from .actions import layer_search as layer_search
from .engine.run_experiment import RunSummary as RunSummary
from .engine.run_experiment import run_experiment as run_experiment
from .errors import StatebridgeError as StatebridgeError
from .experiment import Condition as Condition
from .experiment import Experiment as Experiment
from .experiment import load_experiment as load_experiment
from .experiment import parse_experiment as parse_experiment
from .models.pair import Pair as Pair
from .models.pair import load_pair as load_pair
from .plugins import load_plugin as load_plugin
from .records import CellResult as CellResult
from .records import DatasetRow as DatasetRow
from .records import LaneResult as LaneResult
from .records import ResultSet as ResultSet
from .results.read_results import read_sources as read_sources
from .run import Run as Run
from .run import open_run as open_run
from .run import run as run
from .scoring import score_cell as score_cell
from .scoring import score_conditions as score_conditions
from .stats import compare as compare
from .translators import Translator as Translator
from .translators import load_translator as load_translator
from .translators import save_translator as save_translator

__all__: list[str]
__version__: str
