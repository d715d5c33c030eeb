"""Decoding steps captured as CUDA graphs: one launch a step instead of one a kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch


class CudaRecorder:
    """Captures steps on one GPU; as torch's notes on CUDA graphs have it.

    The graphs share one memory pool. It holds only what lives inside a step, everything else
    being in buffers from outside of it: so they may be repeated in any order, one at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, step: Callable[[], None]) -> None:
        """Run a step on a side stream, where libraries set themselves up for the capture."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                step()
            current.wait_stream(self._stream)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Capture a step; what is returned repeats it over the same buffers.

        Raises:
            RuntimeError: Something in the step cannot be captured.
        """
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._device),
            # Other threads may go on using the GPU: only this one's calls are captured.
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            step()

        def replay() -> None:
            with torch.cuda.device(self._device):
                graph.replay()

        return replay
