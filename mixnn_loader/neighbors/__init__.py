"""Nearest neighbors of representations: in the whole training set, or within a mini-batch."""

from mixnn_loader.neighbors.cell_search import CellReport, CellSearch
from mixnn_loader.neighbors.choose import resolve_search
from mixnn_loader.neighbors.complete import search_all
from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.hnsw import HNSWSearch
from mixnn_loader.neighbors.in_batch import nearest_in_batch, random_in_batch
from mixnn_loader.neighbors.protocol import NeighborSearch

__all__ = [
    "CellReport",
    "CellSearch",
    "ExactSearch",
    "HNSWSearch",
    "NeighborSearch",
    "nearest_in_batch",
    "random_in_batch",
    "resolve_search",
    "search_all",
]
