"""Whether what is kept is still whole: the doctor, scrubs, drills, and what is due."""
