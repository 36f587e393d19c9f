"""What a store keeps of services: documents, windows, predictions that wait for labels, and reviews."""

from gpuwarden.aggregator.store_documents import DocumentRows
from gpuwarden.aggregator.store_predictions import PredictionRows
from gpuwarden.aggregator.store_reviews import ReviewRows
from gpuwarden.aggregator.store_windows import WindowRows


class ServiceRows(DocumentRows, WindowRows, PredictionRows, ReviewRows):
    """That part of ``Store``, for a store that says how a value is marked and what its clock says."""
