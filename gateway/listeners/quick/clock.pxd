"""The clocks of `time`, read without making an object: of the lane, with every statement."""

from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec


cdef inline double monotonic() noexcept nogil:
    """`time.monotonic`, and `time.perf_counter`, which is the same clock on Linux."""
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return moment.tv_sec + moment.tv_nsec * 1e-9


cdef inline long long time_us() noexcept nogil:
    """Microseconds since 1970."""
    cdef timespec moment
    clock_gettime(CLOCK_REALTIME, &moment)
    return <long long>moment.tv_sec * 1_000_000 + moment.tv_nsec // 1000
