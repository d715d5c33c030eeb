"""A folder that `datasets.load_dataset` reads: Parquet files, and a card that names them."""

from __future__ import annotations

import re
from pathlib import Path

from statebridge.data.files import atomic_writer, make_folder
from statebridge.interchange.samples import model_name
from statebridge.records import ResultSet
from statebridge.results.formats import RESULT_FORMATS
from statebridge.scoring.measures import shown_measures
from statebridge.tables.formats import to_markdown, write_table
from statebridge.tables.row_table import row_table
from statebridge.tables.summary_tables import table_one

_CARD = """---
pretty_name: {name}
tags:
- statebridge
configs:
- config_name: lanes
  default: true
  data_files: lanes.parquet
- config_name: conditions
  data_files: conditions.parquet
---

# {title}

Rows of a run of Statebridge{pair}. `lanes` (the default) has a line for each row of the dataset
under each condition and seed, with its text, scores and measurements; `conditions` has the scores
of each condition. The primary metric is `{metric}`.

```python
from datasets import load_dataset

lanes = load_dataset("PATH OR owner/name", "lanes", split="train")
```

{table}
{cautions}"""


class DatasetFolder:
    """A folder that `datasets.load_dataset` reads: all lanes as Parquet, and a card."""

    def write(self, results: ResultSet, folder: Path) -> list[Path]:
        """Write `lanes.parquet`, `conditions.parquet` and `README.md`.

        Raises:
            ResultError: There is no row.
            EnvironmentFault: A file cannot be written.
        """
        measures = shown_measures(results)
        tables = {"lanes": row_table(results), "conditions": table_one(results, measures=measures)}
        make_folder(folder)
        files = [write_table(table, folder / f"{name}.parquet") for name, table in tables.items()]
        files.append(folder / "README.md")
        with atomic_writer(files[-1]) as stream:
            stream.write(_card(results, to_markdown(tables["conditions"])).encode())
        return files


RESULT_FORMATS.add("datasets")(DatasetFolder())


def _card(results: ResultSet, table: str) -> str:
    manifest = results.manifest or {}
    title = (manifest.get("experiment") or {}).get("name") or "Statebridge"
    models = [model_name(side["model"]) for side in (manifest.get("pair") or {}).values()]
    listed = "".join(f"- {text}\n" for text in results.cautions)
    return _CARD.format(
        name=re.sub(r"[^\w .-]", "-", title),
        title=title,
        pair=f", {' to '.join(models)}" if models else "",
        metric=shown_measures(results)[0],
        table=table,
        cautions=f"\n## Cautions\n\n{listed}" if listed else "",
    )
