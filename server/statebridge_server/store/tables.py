"""The tables. Times are seconds since the epoch, as floats: the same in every database."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

SCHEMA = 6
"""Version of the tables. `statebridge_server.store.database` upgrades some older versions and
refuses all others."""

ID = String(64)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, float: Float(53)}  # noqa: RUF012


class SchemaVersion(Base):
    """The version of the tables, in one row."""

    __tablename__ = "schema_version"
    version: Mapped[int] = mapped_column(primary_key=True)


class Key(Base):
    """A bearer key; the secret itself is not stored."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(16))
    token_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


class UploadedFile(Base):
    """A file named by its content, kept once for all keys that uploaded it."""

    __abstract__ = True
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float]


class Holder(Base):
    """The upload of a file by one key, with the key's own description."""

    __abstract__ = True
    file: ClassVar[type[UploadedFile]]
    kind: ClassVar[str]
    """Singular name: in messages, and as the kind of a job's input."""
    plural: ClassVar[str]
    """Plural name, in routes."""

    @declared_attr
    @classmethod
    def sha256(cls) -> Mapped[str]:
        """SHA-256 of the file."""
        file = ForeignKey(f"{cls.file.__tablename__}.sha256")
        # First in the primary key: the holders of a file are looked up by it.
        return mapped_column(file, primary_key=True, sort_order=-1)

    owner: Mapped[str] = mapped_column(ID, primary_key=True)
    created_at: Mapped[float]


class Dataset(UploadedFile):
    """Rows as JSON Lines."""

    __tablename__ = "datasets"


class DatasetHolder(Holder):
    """The upload of a dataset by one key, with the names of its fields."""

    __tablename__ = "dataset_holders"
    file = Dataset
    kind, plural = "dataset", "datasets"
    fields: Mapped[dict[str, Any]]
    rows: Mapped[int]
    longest: Mapped[int]
    """Characters of context and question of the longest row."""


class Corpus(UploadedFile):
    """Text to fit translators on."""

    __tablename__ = "corpora"


class CorpusHolder(Holder):
    """The upload of a corpus by one key, with the key's name for it."""

    __tablename__ = "corpus_holders"
    file = Corpus
    kind, plural = "corpus", "corpora"
    name: Mapped[str] = mapped_column(String(255))
    passages: Mapped[int]


HOLDERS: dict[str, type[DatasetHolder | CorpusHolder]] = {
    holder.kind: holder for holder in (DatasetHolder, CorpusHolder)
}
"""Tables of holders, by the kind of a job's input."""


class Translator(Base):
    """A translator that was uploaded, or fitted by a job."""

    __tablename__ = "translators"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    owner: Mapped[str] = mapped_column(ID, index=True)
    name: Mapped[str] = mapped_column(String(200))
    shared: Mapped[bool]
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    card: Mapped[dict[str, Any]]
    job_id: Mapped[str | None] = mapped_column(ID)
    """The experiment that fitted it."""
    created_at: Mapped[float]


class Job(Base):
    """An experiment, from its submission to its end."""

    __tablename__ = "jobs"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    """Order of submission."""
    id: Mapped[str] = mapped_column(ID, unique=True)
    owner: Mapped[str] = mapped_column(ID, index=True)
    shared: Mapped[bool]
    name: Mapped[str] = mapped_column(String(200))
    pair: Mapped[str] = mapped_column(String(200))
    experiment: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16), index=True)
    priority: Mapped[int]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    failed_workers: Mapped[int] = mapped_column("deaths", default=0)
    """Workers that died over it since it last committed a group; the column has an older name."""
    error: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    request_sha256: Mapped[str] = mapped_column(String(64))
    lanes_total: Mapped[int]
    lanes_done: Mapped[int] = mapped_column(default=0)
    lanes_at_claim: Mapped[int] = mapped_column(default=0)
    lanes_reused: Mapped[int] = mapped_column(default=0)
    """Lanes that were reused from earlier jobs."""
    submitted_at: Mapped[float]
    claimed_at: Mapped[float | None]
    """When a worker last took it."""
    turn: Mapped[int] = mapped_column(default=0)
    """Number of the turn in which it was last taken, from 1; decides which key is next."""
    finished_at: Mapped[float | None]

    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("jobs_turns", "owner", "turn"),
    )


class JobInput(Base):
    """An input of a job, which must not be deleted before the job ends."""

    __tablename__ = "job_inputs"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    item: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class Lane(Base):
    """A committed lane, so that no other job computes it again; goes with its job."""

    __tablename__ = "lanes"
    key: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    """SHA-256 over everything that the lane's result is a function of."""
    job_number: Mapped[int] = mapped_column(
        ForeignKey("jobs.number", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        index=True,
    )
    line: Mapped[bytes]
    """The line of the run's rows, compressed by zlib, whose checksum shows damage."""


class Event(Base):
    """An event of a job; events are only appended."""

    __tablename__ = "events"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 1, without gaps, within the job."""
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]
    at: Mapped[float]


class WorkerState(Base):
    """State of the worker process; one row."""

    __tablename__ = "worker"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pid: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(String(400))
    pairs: Mapped[dict[str, Any]]
    """By pair name: the loaded models, or the error."""
    beat_at: Mapped[float]
