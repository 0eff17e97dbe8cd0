"""Three bad days, one after the other: access is revoked, data is deleted, GPUs stand idle, and the clean retrain takes the
idle hours.
"""

from stillhouse.compute.own_runs import gpu_hours_of
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.runs.report.story_page import Story, StoryStep, write_story
from stillhouse.runs.stories import Told, deleted_data, idle_gpus, revoked_access


def tell(home: Home, progress: Progress) -> Told:
    """Play all three in a home. Raises what their commands raise."""
    revoked = revoked_access.tell(home, progress)
    deleted = deleted_data.tell(home, progress)
    clean = str(revoked.value["clean"])
    # As measured when it was trained again here, on this machine's processor.
    idle = idle_gpus.tell(home, progress, (f"The clean retrain {clean}", gpu_hours_of(home, clean)))
    days = (
        ("The teacher's access is revoked", revoked),
        ("Someone deletes the data", deleted),
        ("GPUs stand idle", idle),
    )
    story = Story(
        title="Three bad days",
        made=home.today,
        made_up=" ".join(told.story.made_up for _, told in days),
        conclusion=tuple(f"{name}: {line}" for name, told in days for line in told.story.conclusion),
        steps=tuple(
            StoryStep(f"{name}: {step.title}", step.text, step.lines)
            for name, told in days
            for step in told.story.steps
        ),
        edges=revoked.story.edges,
        touched=revoked.story.touched,
        quarantine=revoked.story.quarantine,
        pictures=idle.story.pictures,
    )
    page = write_story(story, home.reports / "story-all")
    value = {"story": "all", "report": str(page), **{told.value["story"]: told.value for _, told in days}}
    return Told(page, value, story)
