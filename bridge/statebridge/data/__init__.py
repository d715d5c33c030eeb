"""Datasets: reading, checking, hashing, and generating our own."""

from __future__ import annotations

from statebridge.data.files import sha256_file, verify_sha256
from statebridge.data.jsonl import FieldMap, iter_jsonl, read_jsonl, rows_sha256, write_jsonl
from statebridge.data.multihop import generate_multihop, iter_multihop
from statebridge.data.readers import FORMATS, read_dataset
from statebridge.data.rows import overlap, row_identity, row_identity_sha256
from statebridge.records import DatasetRow

__all__ = [
    "FORMATS",
    "DatasetRow",
    "FieldMap",
    "generate_multihop",
    "iter_jsonl",
    "iter_multihop",
    "overlap",
    "read_dataset",
    "read_jsonl",
    "row_identity",
    "row_identity_sha256",
    "rows_sha256",
    "sha256_file",
    "verify_sha256",
    "write_jsonl",
]
