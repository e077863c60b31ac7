# cython: language_level=3
"""A timer of the kernel (timerfd) for an event loop whose own timers know milliseconds only."""

from libc.errno cimport EAGAIN, errno
from libc.stdint cimport uint64_t
from libc.string cimport memset, strerror

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    cdef struct itimerspec:
        timespec it_interval
        timespec it_value
    const int CLOCK_MONOTONIC

cdef extern from "<sys/timerfd.h>" nogil:
    const int TFD_CLOEXEC, TFD_NONBLOCK
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int file, int flags, const itimerspec *new, itimerspec *old)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int file, void *into, size_t size)
    int close(int file)


cdef class Alarm:
    cdef readonly int file

    def __cinit__(self):
        self.file = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
        if self.file < 0:
            raise OSError(errno, strerror(errno).decode())

    def __dealloc__(self):
        self.close()

    def set(self, double seconds):
        cdef long nanoseconds
        if not 0 < seconds < 1000:
            raise ValueError("a moment to wait, in seconds")
        nanoseconds = <long>(seconds * 1e9) + 1
        self._set(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)

    def stop(self):
        self._set(0, 0)

    def rang(self):
        cdef uint64_t times
        if read(self.file, &times, sizeof(times)) == sizeof(times):
            return True
        if errno != EAGAIN:
            raise OSError(errno, strerror(errno).decode())
        return False

    cpdef close(self):
        if self.file >= 0:
            close(self.file)
        self.file = -1

    cdef int _set(self, long seconds, long nanoseconds) except -1:
        cdef itimerspec given
        memset(&given, 0, sizeof(given))
        given.it_value.tv_sec, given.it_value.tv_nsec = seconds, nanoseconds
        if timerfd_settime(self.file, 0, &given, NULL) != 0:
            raise OSError(errno, strerror(errno).decode())
        return 0
