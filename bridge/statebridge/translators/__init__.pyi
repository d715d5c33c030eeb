from .closed_form.procrustes import fit_procrustes
from .closed_form.ridge import fit_ridge
from .fit import Fit
from .position_store import PositionStore
from .quality import TargetMeans, measure_quality, target_means
from .storage import load_translator, make_card, save_translator
from .training import train_translator
from .translator import Translator

__all__ = [
    "Fit",
    "PositionStore",
    "TargetMeans",
    "Translator",
    "fit_procrustes",
    "fit_ridge",
    "load_translator",
    "make_card",
    "measure_quality",
    "save_translator",
    "target_means",
    "train_translator",
]
