class Sparing:
    most_reused_s: float  # how long a server may be spared parsing
    most_reused_run_s: float  # and how long an execution that was spared may have taken
