"""Where the kernels of the matrix run, and which cells it has."""

from __future__ import annotations

from dataclasses import dataclass

from languages import LANGUAGES, Language


@dataclass(frozen=True)
class Place:
    """Where a kernel's driver and executors are.

    Parameters
    ----------
    id : str
        As kernelspecs name it.
    title : str
        As the table does.
    master, mode : str
        What Spark says of it there.
    on_yarn : bool
        Whether there is an application of YARN's.
    """

    id: str
    title: str
    master: str
    mode: str
    on_yarn: bool


CLUSTER = Place("yarn_cluster", "cluster", "yarn", "cluster", True)
CLIENT = Place("yarn_client", "client", "yarn", "client", True)
LOCAL = Place("local", "local", "local[*]", "client", False)
PLACES = [CLUSTER, CLIENT, LOCAL]


@dataclass(frozen=True)
class Cell:
    """A language in a place."""

    language: Language
    place: Place

    def __str__(self) -> str:
        return f"{self.language.id}-{self.place.title}"

    @property
    def kernelspec(self) -> str:
        return self.language.kernel(self.place.id)


CELLS = [Cell(language, place) for language in LANGUAGES for place in PLACES]
