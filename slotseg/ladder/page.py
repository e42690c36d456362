"""A ladder as one HTML file without anything outside of it."""

from __future__ import annotations

import base64

import jinja2

from slotseg.ladder.records import LadderRecord
from slotseg.ladder.tables import legend, origins, pretraining_cells, remarks, rung_cells


def ladder_page(record: LadderRecord, picture: bytes) -> str:
    """HTML text.

    Args:
        record: of the climb.
        picture: PNG from :func:`slotseg.ladder.plots.draw_ladder`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("slotseg.ladder"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("ladder.html.j2").render(
        record=record,
        rungs=rung_cells(record),
        pretraining=pretraining_cells(record.pretraining),
        legend=legend(record),
        remarks=remarks(record),
        origins=[line.replace("`", "") for line in origins(record)],
        picture=base64.b64encode(picture).decode("ascii"),
    )
