/* What of DPDK is `static inline`, or wants a structure, made callable by name with plain numbers.
 *
 * Every argument and every result is an int64_t, so that a compiled loop calls these functions without knowing C's types;
 * addresses are numbers too. A result below 0 is -errno. What a packet buffer (mbuf) looks like inside is told by
 * exchange_dpdk_offset(), so that loops read and write it without a call.
 *
 * A thread that is not EAL's own has no cache of packet buffers and pays for each with an atomic operation. So whoever
 * receives, sends or allocates for the first time is registered, and unregistered when the thread ends.
 *
 * When memif's peer has gone, one of EAL's threads takes the shared memory away, also while a loop is in the middle of a
 * burst. So that thread is made to wait: see "memif's peer".
 *
 * Sources: the DPDK 22.11 programmer's guide and API reference: rte_eal.h, rte_ethdev.h, rte_mbuf.h, rte_lcore.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include "c_shims.h"

static pthread_key_t thread_end;
static volatile int is_up;
static __thread int is_known __attribute__((tls_model("initial-exec")));

static void unregister_thread(void *registered) {
    (void)registered;
    if (is_up) rte_thread_unregister();
}

static void __attribute__((noinline)) register_thread(void) {
    is_known = 1; /* once: without a free place the thread goes on, only slower */
    if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() == 0) pthread_setspecific(thread_end, &is_known);
}

static inline void know_thread(void) {
    if (!LIKELY(is_known)) register_thread();
}

/* memif's peer
 *
 * memif's messages, the end of its socket among them, are read by recvmsg() on EAL's thread for interrupts, and dealt
 * with behind that. We have it call ours. It says that the memory may go (is_changing), and waits until no loop is in a
 * burst; a loop says that it is in one before it looks whether it may be. An alarm, which the same thread serves when it
 * is done with the message, says that all is as it was. The loop's store and load need no fence between them, for
 * membarrier(2) has every running thread do one. */
#define PORTS 32
#define QUEUES 65 /* receiving queues, and the sending one */
#define LINE_BYTES 64
#define WAIT_MICROSECONDS 20

static struct {
    volatile int is_in __attribute__((aligned(LINE_BYTES)));
} bursts[PORTS][QUEUES];
static volatile int is_changing;

static inline volatile int *begin_burst(int64_t port, int64_t queue) {
    volatile int *is_in = &bursts[port % PORTS][queue % QUEUES].is_in;
    __atomic_store_n(is_in, 1, __ATOMIC_RELAXED);
    __asm__ volatile("" ::: "memory");
    if (LIKELY(!__atomic_load_n(&is_changing, __ATOMIC_ACQUIRE))) return is_in;
    __atomic_store_n(is_in, 0, __ATOMIC_RELEASE);
    return NULL;
}

static inline void end_burst(volatile int *is_in) { __atomic_store_n(is_in, 0, __ATOMIC_RELEASE); }

static void has_changed(void *unused) {
    (void)unused;
    __atomic_store_n(&is_changing, 0, __ATOMIC_RELEASE);
}

static ssize_t receive_message(int descriptor, struct msghdr *message, int flags) {
    ssize_t size = recvmsg(descriptor, message, flags);
    int kept = errno;
    rte_eal_alarm_cancel(has_changed, NULL);
    __atomic_store_n(&is_changing, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    for (int port = 0; port < PORTS; port++)
        for (int queue = 0; queue < QUEUES; queue++)
            while (__atomic_load_n(&bursts[port][queue].is_in, __ATOMIC_ACQUIRE)) usleep(WAIT_MICROSECONDS);
    if (rte_eal_alarm_set(1, has_changed, NULL) != 0) has_changed(NULL);
    errno = kept;
    return size;
}

/* Starting, stopping and closing a port touch what the messages of its peer touch, with no lock between them. So memif's
 * ports are started, stopped and closed by the thread that has the messages: as an alarm, which it serves between two. */
static struct {
    pthread_mutex_t one_at_a_time;
    sem_t is_done;
    int (*what)(uint16_t);
    uint16_t port;
    int result;
} errand = {.one_at_a_time = PTHREAD_MUTEX_INITIALIZER};

static void run_errand(void *unused) {
    (void)unused;
    errand.result = errand.what(errand.port);
    sem_post(&errand.is_done);
}

static int64_t between_messages(int (*what)(uint16_t), int64_t port) {
    struct rte_eth_dev_info info;
    if (rte_eth_dev_info_get((uint16_t)port, &info) != 0 || strcmp(info.driver_name, "net_memif") != 0)
        return what((uint16_t)port);
    pthread_mutex_lock(&errand.one_at_a_time);
    sem_init(&errand.is_done, 0, 0);
    errand.what = what;
    errand.port = (uint16_t)port;
    if (rte_eal_alarm_set(1, run_errand, NULL) != 0)
        errand.result = what((uint16_t)port);
    else
        while (sem_wait(&errand.is_done) != 0) continue;
    sem_destroy(&errand.is_done);
    int64_t result = errand.result;
    pthread_mutex_unlock(&errand.one_at_a_time);
    return result;
}

API int64_t exchange_dpdk_start(int64_t count, int64_t arguments) {
    if (pthread_key_create(&thread_end, unregister_thread) != 0) return -EAGAIN;
    int parsed = rte_eal_init((int)count, (char **)arguments);
    if (parsed < 0) return rte_errno > 0 ? -rte_errno : -EINVAL;
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    replace_import("librte_net_memif", "recvmsg", (void *)receive_message);
    is_up = 1;
    return 0;
}

/* EAL's thread for interrupts lives on, and what it still has to do would find EAL's memory gone. So it has to wait for the
 * end of the process, in an interrupt of our own: EAL itself waits for those that it takes away. */
static sem_t is_parked;

static void park(void *unused) {
    (void)unused;
    sem_post(&is_parked);
    for (;;) pause();
}

static void park_interrupts(void) {
    struct rte_intr_handle *handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
    int descriptor = eventfd(1, EFD_CLOEXEC); /* readable from the beginning */
    if (handle == NULL || descriptor < 0 || rte_intr_fd_set(handle, descriptor) != 0) return;
    if (rte_intr_type_set(handle, RTE_INTR_HANDLE_EXT) != 0 || sem_init(&is_parked, 0, 0) != 0) return;
    if (rte_intr_callback_register(handle, park, NULL) != 0) return;
    while (sem_wait(&is_parked) != 0) continue;
}

API int64_t exchange_dpdk_stop(void) {
    is_up = 0;
    park_interrupts();
    return rte_eal_cleanup();
}

/* The address of the name of the folder that EAL has made for this process. */
API int64_t exchange_dpdk_folder(void) { return (int64_t)rte_eal_get_runtime_dir(); }

/* How much a part of DPDK says, by the pattern of its name: 1 is emergencies, 8 is all. */
API int64_t exchange_dpdk_say(int64_t pattern, int64_t level) {
    return rte_log_set_level_pattern((const char *)pattern, (uint32_t)level);
}

/* From now on this thread's memory is to come from a NUMA node, or, below 0, from where it comes by itself.
 * Sources: set_mempolicy(2) and get_mempolicy(2), whose numbers are those of linux/mempolicy.h. */
API int64_t exchange_dpdk_prefer_node(int64_t node) {
    unsigned long nodes = node < 0 ? 0 : 1ul << node;
    long failure = syscall(SYS_set_mempolicy, node < 0 ? 0 /* MPOL_DEFAULT */ : 1 /* MPOL_PREFERRED */, &nodes, 65ul);
    return failure == 0 ? 0 : -errno;
}

/* The NUMA node on which the memory at an address lies. */
API int64_t exchange_dpdk_node_of(int64_t address) {
    int node = -1;
    long failure = syscall(SYS_get_mempolicy, &node, NULL, 0ul, (void *)address, 3ul /* MPOL_F_NODE | MPOL_F_ADDR */);
    return failure == 0 ? node : -errno;
}

/* ports */

API int64_t exchange_dpdk_find(int64_t name) {
    uint16_t port;
    return rte_eth_dev_get_port_by_name((const char *)name, &port) != 0 ? -ENODEV : port;
}

API int64_t exchange_dpdk_numa_node(int64_t port) { return rte_eth_dev_socket_id((uint16_t)port); }

API int64_t exchange_dpdk_queues_max(int64_t port) {
    struct rte_eth_dev_info info;
    int failure = rte_eth_dev_info_get((uint16_t)port, &info);
    return failure != 0 ? failure : info.max_rx_queues;
}

/* How many sending queues there are then: one beside each receiving queue, where the device has as many. */
API int64_t exchange_dpdk_open(int64_t port, int64_t pool, int64_t queues, int64_t descriptors, int64_t numa_node) {
    struct rte_eth_dev_info info;
    struct rte_eth_conf wanted;
    uint16_t id = (uint16_t)port, receiving = (uint16_t)descriptors, sending = (uint16_t)descriptors;
    int failure = rte_eth_dev_info_get(id, &info);
    if (failure != 0) return failure;
    memset(&wanted, 0, sizeof wanted);
    if (queues > 1 && info.flow_type_rss_offloads != 0) {
        wanted.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        wanted.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
    }
    /* Some devices, tap and virtio among them, have queues in pairs only. */
    uint16_t pairs = (uint16_t)RTE_MIN(queues, (int64_t)info.max_tx_queues);
    if ((failure = rte_eth_dev_configure(id, (uint16_t)queues, pairs, &wanted)) != 0) return failure;
    if ((failure = rte_eth_dev_adjust_nb_rx_tx_desc(id, &receiving, &sending)) != 0) return failure;
    for (uint16_t queue = 0; queue < queues; queue++)
        if ((failure = rte_eth_rx_queue_setup(id, queue, receiving, (unsigned)numa_node, NULL, (void *)pool)) != 0)
            return failure;
    for (uint16_t queue = 0; queue < pairs; queue++)
        if ((failure = rte_eth_tx_queue_setup(id, queue, sending, (unsigned)numa_node, NULL)) != 0) return failure;
    return pairs;
}

API int64_t exchange_dpdk_start_port(int64_t port) { return between_messages(rte_eth_dev_start, port); }

API int64_t exchange_dpdk_stop_port(int64_t port) { return between_messages(rte_eth_dev_stop, port); }

API int64_t exchange_dpdk_close_port(int64_t port) { return between_messages(rte_eth_dev_close, port); }

API int64_t exchange_dpdk_is_link_up(int64_t port) {
    struct rte_eth_link link;
    int failure = rte_eth_link_get_nowait((uint16_t)port, &link);
    return failure != 0 ? failure : link.link_status == RTE_ETH_LINK_UP;
}

API int64_t exchange_dpdk_mac(int64_t port) {
    struct rte_ether_addr address;
    int failure = rte_eth_macaddr_get((uint16_t)port, &address);
    if (failure != 0) return failure;
    int64_t mac = 0;
    for (int index = 0; index < RTE_ETHER_ADDR_LEN; index++) mac = mac << 8 | address.addr_bytes[index];
    return mac;
}

/* Up to `room` statistics: their names to `names`, 64 bytes each, and their values; returns how many there are. */
API int64_t exchange_dpdk_statistics(int64_t port, int64_t names, int64_t values, int64_t room) {
    struct rte_eth_xstat found[room > 0 ? room : 1];
    int count = rte_eth_xstats_get((uint16_t)port, room > 0 ? found : NULL, (unsigned)room);
    if (count < 0 || count > room) return count;
    count = rte_eth_xstats_get_names((uint16_t)port, (struct rte_eth_xstat_name *)names, (unsigned)room);
    for (int index = 0; index < count && index < room; index++) ((uint64_t *)values)[index] = found[index].value;
    return count;
}

/* packet buffers */

API int64_t exchange_dpdk_make_pool(int64_t name, int64_t count, int64_t cached, int64_t numa_node) {
    void *pool = rte_pktmbuf_pool_create((const char *)name, (unsigned)count, (unsigned)cached, 0,
                                         RTE_MBUF_DEFAULT_BUF_SIZE, (int)numa_node);
    return pool != NULL ? (int64_t)pool : -rte_errno;
}

API int64_t exchange_dpdk_free_pool(int64_t pool) {
    rte_mempool_free((struct rte_mempool *)pool);
    return 0;
}

API int64_t exchange_dpdk_available(int64_t pool) { return rte_mempool_avail_count((struct rte_mempool *)pool); }

API int64_t exchange_dpdk_offset(int64_t field) {
    switch (field) {
    case 0: return offsetof(struct rte_mbuf, buf_addr);
    case 1: return offsetof(struct rte_mbuf, data_off);
    case 2: return offsetof(struct rte_mbuf, data_len);
    case 3: return offsetof(struct rte_mbuf, pkt_len);
    default: return -EINVAL;
    }
}

/* what loops call */

API int64_t exchange_dpdk_receive(int64_t port, int64_t queue, int64_t buffers, int64_t room) {
    know_thread();
    volatile int *burst = begin_burst(port, queue);
    if (burst == NULL) return 0;
    int64_t count = rte_eth_rx_burst((uint16_t)port, (uint16_t)queue, (struct rte_mbuf **)buffers, (uint16_t)room);
    end_burst(burst);
    return count;
}

API int64_t exchange_dpdk_send(int64_t port, int64_t queue, int64_t buffers, int64_t count) {
    know_thread();
    volatile int *burst = begin_burst(port, QUEUES - 1);
    if (burst == NULL) return 0;
    int64_t sent = rte_eth_tx_burst((uint16_t)port, (uint16_t)queue, (struct rte_mbuf **)buffers, (uint16_t)count);
    end_burst(burst);
    return sent;
}

API int64_t exchange_dpdk_allocate(int64_t pool, int64_t buffers, int64_t count) {
    know_thread();
    return rte_pktmbuf_alloc_bulk((struct rte_mempool *)pool, (struct rte_mbuf **)buffers, (unsigned)count);
}

API int64_t exchange_dpdk_free(int64_t buffers, int64_t count) {
    rte_pktmbuf_free_bulk((struct rte_mbuf **)buffers, (unsigned)count);
    return 0;
}
