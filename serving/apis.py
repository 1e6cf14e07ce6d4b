"""TF Serving's official messages, imported once TensorFlow is set up by `features.backend`.

The rest of the server takes them from here: `tensorflow_serving.apis` imports TensorFlow itself,
and an import sorter would put it first.
"""

# isort: off
from features.backend import tf
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.config_pb2 import CallableOptions
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

__all__ = [
    "CallableOptions",
    "DataType",
    "GetModelMetadataRequest",
    "GetModelMetadataResponse",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
    "ModelServerConfig",
    "PredictRequest",
    "PredictResponse",
    "PredictionLog",
    "SignatureDefMap",
    "tf",
]
