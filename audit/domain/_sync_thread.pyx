# cython: language_level=3
"""The compiled twin of `sync_thread.SyncThread`. What its thread does knows nothing of Python, from begin to end."""

from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strerror

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t *thread, void *attributes, void *(*work)(void *) noexcept nogil, void *given)
    int pthread_join(pthread_t thread, void **returned)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    const int SIG_SETMASK
    int sigfillset(sigset_t *signals)
    int pthread_sigmask(int how, const sigset_t *signals, sigset_t *before)

cdef extern from "<sys/eventfd.h>" nogil:
    const int EFD_CLOEXEC, EFD_NONBLOCK
    int eventfd(unsigned int count, int flags)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int file, void *into, size_t size)
    ssize_t write(int file, const void *data, size_t size)
    int fdatasync(int file)
    int close(int file)

cdef enum:
    END = -1

cdef struct Shared:  # what one side writes before it writes to an eventfd, the other reads after reading from it
    int orders, answers
    int file
    int failed


cdef void *_work(void *given) noexcept nogil:
    cdef Shared *shared = <Shared *>given
    cdef uint64_t count
    cdef int file
    while True:
        while read(shared.orders, &count, sizeof(count)) != sizeof(count):
            if errno != EINTR:  # nobody can order anything any more: whoever did hears that it failed
                shared.failed = EIO
                _answer(shared)
                return NULL
        file = shared.file
        if file == END:
            return NULL
        # Whatever it fails with, it is not tried again: the kernel may have taken the pages for written.
        shared.failed = 0 if fdatasync(file) == 0 else (errno or EIO)
        _answer(shared)


cdef void _answer(Shared *shared) noexcept nogil:
    cdef uint64_t count = 1
    while write(shared.answers, &count, sizeof(count)) != sizeof(count) and errno == EINTR:
        pass


cdef class SyncThread:
    cdef Shared *_shared
    cdef pthread_t _thread
    cdef bint _busy, _begun

    def __cinit__(self):
        cdef sigset_t every, before
        cdef int failed
        self._shared = <Shared *>calloc(1, sizeof(Shared))
        if self._shared == NULL:
            raise MemoryError
        self._shared.file = self._shared.orders = self._shared.answers = END
        self._shared.orders, self._shared.answers = eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self._shared.orders < 0 or self._shared.answers < 0:
            raise OSError(errno, strerror(errno).decode())
        sigfillset(&every)  # signals are for threads that run Python
        pthread_sigmask(SIG_SETMASK, &every, &before)
        failed = pthread_create(&self._thread, NULL, _work, self._shared)
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        if failed:
            raise OSError(failed, strerror(failed).decode())
        self._begun = True

    @property
    def answers(self):
        return self._shared.answers

    def order(self, int file):
        if self._busy or file < 0 or not self._begun:
            raise RuntimeError("a sync is under way, or its thread has ended")
        self._shared.file, self._busy = file, True
        self._tell()

    def outcome(self):
        cdef uint64_t count
        cdef ssize_t size
        while True:
            size = read(self._shared.answers, &count, sizeof(count))
            if size == sizeof(count):
                break
            if errno != EINTR:
                raise OSError(errno, strerror(errno).decode())  # BlockingIOError: nothing was answered
        self._busy = False
        return self._shared.failed

    def close(self):
        if self._begun:
            self._end()

    cdef int _tell(self) except -1:
        cdef uint64_t count = 1
        while write(self._shared.orders, &count, sizeof(count)) != sizeof(count):
            if errno != EINTR:
                raise OSError(errno, strerror(errno).decode())
        return 0

    cdef void _end(self):
        self._begun = False
        with nogil:
            _end_thread(self._shared, self._thread)
        _let_go(self._shared)

    def __dealloc__(self):
        if self._shared != NULL:
            if self._begun:
                _end_thread(self._shared, self._thread)
            _let_go(self._shared)
            free(self._shared)


cdef void _end_thread(Shared *shared, pthread_t thread) noexcept nogil:
    cdef uint64_t count = 1
    shared.file = END
    while write(shared.orders, &count, sizeof(count)) != sizeof(count) and errno == EINTR:
        pass
    pthread_join(thread, NULL)


cdef void _let_go(Shared *shared) noexcept:
    if shared.orders >= 0:
        close(shared.orders)
    if shared.answers >= 0:
        close(shared.answers)
    shared.orders = shared.answers = -1
