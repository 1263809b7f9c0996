"""Stacks become stages: the innermost frame that is known decides, and who waits does not count."""

import pytest

from benchmarks.endpoint_profile import EVENT_LOOP, OTHER_THREADS, stage_of, stage_seconds

RUN = "Thread.run (threading.py:982)"
WORKER = "_worker (concurrent/futures/thread.py:83)"
IDLE = "_worker (concurrent/futures/thread.py:81)"
FORWARD = "MultiModalEncoder.forward (multimodal.py:106)"
TOKENIZE = "TextTower.tokenize (text_tower.py:75)"
PREPARE = "Service._prepare (service.py:98)"


@pytest.mark.parametrize(
    ("frames", "stage"),
    [
        (
            [
                RUN,
                WORKER,
                "Scheduler._gather_and_forward (scheduler.py:119)",
                FORWARD,
                "__call__ (torch/_ops.py:875)",
            ],
            "forward",
        ),
        ([RUN, WORKER, PREPARE, "MultiModalEncoder.prepare (multimodal.py:88)", TOKENIZE], "tokenize"),
        (
            [RUN, WORKER, PREPARE, "read_items (inputs.py:38)", "stack (numpy/_core/shape_base.py:467)"],
            "make items",
        ),
        ([RUN, "_embed (embeddings.py:47)", "__call__ (starlette/routing.py:1)"], "FastAPI, Starlette, uvicorn"),
        ([RUN, IDLE], ""),
        (["<module> (x.py:1)", "wait (threading.py:327)"], ""),
        ([RUN, WORKER, "unheard_of (somewhere.py:1)"], OTHER_THREADS),
    ],
)
def test_the_innermost_known_frame_names_the_stage(frames, stage):
    assert stage_of(frames) == stage


def test_what_has_no_frame_in_the_event_loops_thread_is_the_loop_itself():
    assert stage_of([RUN], in_loop=True) == EVENT_LOOP


def test_a_threads_time_is_divided_by_its_samples_and_the_rest_is_of_the_others():
    stacks = [
        f"thread (7): device_0;{RUN};{WORKER};{FORWARD} 3",
        f"thread (7): device_0;{RUN};{WORKER};{PREPARE};{TOKENIZE} 1",
        f"thread (7): device_0;{RUN};{IDLE} 96",
        f"thread (8): prepare_0;{RUN};{IDLE} 100",
    ]
    spent = stage_seconds(stacks, {7: 8.0, 8: 0.5, 9: 2.0}, total=11.0)
    assert (spent["forward"], spent["tokenize"], spent[OTHER_THREADS]) == (6.0, 2.0, 3.0)
    assert sum(spent.values()) == 11.0
