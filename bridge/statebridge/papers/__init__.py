"""Papers that are reproduced: a folder each, with all that is one paper's own.

A folder may hold `presets.yaml` (conditions and presets, `statebridge.experiment.presets`) and
any of these modules, each of which adds to the registry of the same subject:

    result_format   files of results               statebridge.results.formats.RESULT_FORMATS
    checkpoint      files of translators           statebridge.results.formats.CHECKPOINTS
    streams         random draws                   statebridge.experiment.random_streams.STREAMS
    comparison      intervals and tests            statebridge.stats.comparison.MODES
    expectation     sets of results to validate    statebridge.validation.expectation.EXPECTATIONS
    checks          further checks of results      statebridge.validation.validate.CHECKS

They are found there; no room above this one imports a paper.
"""
