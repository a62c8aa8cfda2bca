/* The threads of an inference do each step together, every one a share of its pixels, and then meet. */
#if NET_THREADS > 1
static int net_parts; /* how many there are */
static unsigned int net_ready, net_arrived, net_round;

/* Waits until a number is no longer `old`. */
static void net_wait_for(const unsigned int *number, unsigned int old)
{
    int turns = 0;
    while (__atomic_load_n(number, __ATOMIC_ACQUIRE) == old) {
        if (turns < 2000) {
            ++turns;
        } else {
            sched_yield();
        }
    }
}

/* Waits until all threads have come here. */
static void net_meet(void)
{
    const unsigned int turn = __atomic_load_n(&net_round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&net_arrived, 1u, __ATOMIC_ACQ_REL) == (unsigned int)net_parts) {
        __atomic_store_n(&net_arrived, 0u, __ATOMIC_RELAXED);
        __atomic_store_n(&net_round, turn + 1u, __ATOMIC_RELEASE);
    } else {
        net_wait_for(&net_round, turn);
    }
}
#else
enum { net_parts = 1 };
#define net_meet() ((void)0)
#endif

/* Where the share of thread `part` begins of `count` pixels, of which `strip` are computed at once. */
static int net_share(int count, int strip, int part)
{
    const int first = (count + strip - 1) / strip * part / net_parts * strip;
    return first < count ? first : count;
}
