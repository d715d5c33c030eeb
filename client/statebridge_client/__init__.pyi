from .call import Retry as Retry
from .client import AsyncClient as AsyncClient
from .client import Client as Client
from .client import CorpusInfo as CorpusInfo
from .client import DatasetInfo as DatasetInfo
from .client import DoctorCheck as DoctorCheck
from .client import ExperimentStatus as ExperimentStatus
from .client import PairInfo as PairInfo
from .client import RowScore as RowScore
from .client import Scores as Scores
from .client import TranslatorInfo as TranslatorInfo
from .events import Event as Event
from .remote_run import AsyncRemoteRun as AsyncRemoteRun
from .remote_run import RemoteRun as RemoteRun

__all__: list[str]
