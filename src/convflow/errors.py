"""The errors a user can meet. Each is one line: the value, the place, the remedy.

ConvflowError            exit status 2, no traceback; anything else is a bug in convflow
├── ParamsError          params.yaml, or an argument of the command line
├── DataError            the images, their labels, or a table made from them
├── ModelError           a model folder, its card or its weights
├── TrainingError        training cannot go on (a loss that is not finite, no GPU where one is required)
└── TrackingError        MLflow: the store, a run, a registered version
"""


class ConvflowError(Exception):
    """Something the user can mend; its text is printed as one line."""


class ParamsError(ConvflowError):
    """A parameter or an argument is missing, unknown or out of range."""


class DataError(ConvflowError):
    """The data are not what the step needs."""


class ModelError(ConvflowError):
    """A model folder is incomplete, damaged or of another kind."""


class TrainingError(ConvflowError):
    """Training cannot start or cannot go on."""


class TrackingError(ConvflowError):
    """MLflow's store, a run or a version is missing or unreachable."""
