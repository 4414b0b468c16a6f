"""Nearest neighbors of representations: in the whole training set, or within a mini-batch."""

from mixnn_loader.neighbors.cell_search import CellReport, CellSearch
from mixnn_loader.neighbors.choose import resolve_search
from mixnn_loader.neighbors.complete import search_all
from mixnn_loader.neighbors.exact import ExactSearch
from mixnn_loader.neighbors.hnsw import HNSWSearch
from mixnn_loader.neighbors.in_batch import NearestInBatch, RandomInBatch, nearest_in_batch, random_in_batch
from mixnn_loader.neighbors.in_dataset import NearestInDataset, RandomInDataset
from mixnn_loader.neighbors.protocol import NeighborSearch
from mixnn_loader.neighbors.source import Candidates, NeighborSource, Pairs

__all__ = [
    "Candidates",
    "CellReport",
    "CellSearch",
    "ExactSearch",
    "HNSWSearch",
    "NearestInBatch",
    "NearestInDataset",
    "NeighborSearch",
    "NeighborSource",
    "Pairs",
    "RandomInBatch",
    "RandomInDataset",
    "nearest_in_batch",
    "random_in_batch",
    "resolve_search",
    "search_all",
]
