/* One-sided writes through libfabric, called by compiled loops with plain numbers.
 *
 * A link is an endpoint (reliable, connectionless), a completion queue for both directions, and two pieces of memory: the
 * source, which only this process touches, and the target, into which the peer may write. exchange_fabric_write() begins a
 * copy from the source to the peer's target; exchange_fabric_reap() lets the provider go on, and says which copies are
 * done. "Done" is FI_DELIVERY_COMPLETE, the bytes are in the peer's memory and not only on their way, wherever the
 * provider knows that.
 *
 * One thread at a time uses a link. A result below 0 is -errno, and exchange_fabric_error() says in words where it came
 * from.
 *
 * The shared-memory provider of libfabric up to 1.17 has a spin lock in each process's shared memory, which both sides
 * take for some hundred nanoseconds at a time. A peer that is killed or stopped meanwhile would have this side spin for
 * ever. So libfabric is given a pthread_spin_lock() of ours, which yields after a while, and after LOCK_NS goes on as if
 * it had the lock: nobody else will give it back. The call at hand ends in order and reports -EOWNERDEAD; the link must
 * not be used again but to be closed.
 *
 * Sources: fi_getinfo(3), fi_endpoint(3), fi_rma(3), fi_cq(3), fi_mr(3), fi_shm(7) of libfabric 1.17. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "c_shims.h"

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("yield" ::: "memory")
#endif
#define SLOTS_MAX 8192
#define COMPLETIONS 32
#define SPINS 2000
#define LOCK_NS 50000000

static __thread int is_in_call __attribute__((tls_model("initial-exec")));
static __thread int has_taken_by_force __attribute__((tls_model("initial-exec")));
static __thread char error_text[256];

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int lock_or_give_up(pthread_spinlock_t *lock) {
    int64_t since_ns = 0;
    for (int64_t spins = 0;; spins++) {
        if (LIKELY(pthread_spin_trylock(lock) == 0)) return 0;
        if (spins < SPINS) {
            PAUSE();
            continue;
        }
        sched_yield(); /* who has it may be waiting for this core */
        int64_t is_ns = now_ns();
        if (since_ns == 0) since_ns = is_ns;
        if (is_in_call && is_ns - since_ns > LOCK_NS) {
            has_taken_by_force = 1;
            return 0;
        }
    }
}

struct link {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_ep *endpoint;
    struct fid_cq *queue;
    struct fid_av *addresses;
    struct fid_mr *source, *target;
    void *source_key; /* what a write from the source must say */
    uint64_t target_base;
    fi_addr_t peer;
    uint64_t peer_target, peer_key;
    uint64_t flags;
    int is_lost;
    struct fi_context2 contexts[SLOTS_MAX];
};

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int64_t failure_ = (call);                                                                 \
        if (failure_ < 0) {                                                                        \
            snprintf(error_text, sizeof error_text, "%.*s: %s", (int)strcspn(#call, "("), #call,   \
                     fi_strerror((int)-failure_));                                                 \
            result = failure_;                                                                     \
            goto failed;                                                                           \
        }                                                                                          \
    } while (0)

API int64_t exchange_fabric_error(void) { return (int64_t)(intptr_t)error_text; }

static void close_memory(struct link *link) {
    if (link->target) fi_close(&link->target->fid);
    if (link->source) fi_close(&link->source->fid);
    link->target = link->source = NULL;
}

/* The target first: from then on nobody writes into it. */
API int64_t exchange_fabric_close(int64_t handle) {
    struct link *link = (struct link *)handle;
    is_in_call = 1; /* a lock of a peer that has gone must not hold us up */
    close_memory(link);
    if (link->endpoint) fi_close(&link->endpoint->fid);
    if (link->addresses) fi_close(&link->addresses->fid);
    if (link->queue) fi_close(&link->queue->fid);
    if (link->domain) fi_close(&link->domain->fid);
    if (link->fabric) fi_close(&link->fabric->fid);
    if (link->info) fi_freeinfo(link->info);
    is_in_call = has_taken_by_force = 0;
    free(link);
    return 0;
}

static struct fi_info *wishes(const char *provider, uint64_t flags) {
    struct fi_info *hints = fi_allocinfo();
    if (hints == NULL) return NULL;
    hints->fabric_attr->prov_name = strdup(provider);
    hints->ep_attr->type = FI_EP_RDM;
    hints->caps = FI_MSG | FI_RMA | FI_WRITE | FI_REMOTE_WRITE;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->domain_attr->mr_mode =
        FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->tx_attr->op_flags = flags;
    return hints;
}

/* Whether a provider can say that bytes are in the peer's memory. Of one that is laid over connections (";ofi_rxm") those
 * are asked: it says yes to whatever is wanted, and hands on what they say. */
static int knows_delivery(const char *provider, const char *node) {
    size_t length = strcspn(provider, ";");
    struct fi_info *info = NULL, *hints = wishes(provider, FI_DELIVERY_COMPLETE);
    if (hints == NULL) return 0;
    if (provider[length] != 0) hints->ep_attr->type = FI_EP_MSG;
    hints->fabric_attr->prov_name[length] = 0;
    int found = fi_getinfo(FI_VERSION(1, 17), node, NULL, FI_SOURCE, hints, &info);
    if (info) fi_freeinfo(info);
    fi_freeinfo(hints);
    return found == 0;
}

/* The memory of a side, as the peer may use it. */
static int64_t register_memory(struct link *link, int64_t address, int64_t size, uint64_t access, uint64_t key,
                               struct fid_mr **memory) {
    int64_t result = 0;
    TRY(fi_mr_reg(link->domain, (void *)address, (size_t)size, access, 0, key, 0, memory, NULL));
    if (link->info->domain_attr->mr_mode & FI_MR_ENDPOINT) {
        TRY(fi_mr_bind(*memory, &link->endpoint->fid, 0));
        TRY(fi_mr_enable(*memory));
    }
failed:
    return result;
}

/* A link's endpoint and memory; no peer yet. `provider` and `node` are texts, `node` what the endpoint is called: an
 * address of this machine, or a name. */
API int64_t exchange_fabric_open(int64_t provider, int64_t node, int64_t source, int64_t source_bytes, int64_t target,
                                 int64_t target_bytes) {
    static int is_prepared;
    int64_t result = -ENOMEM;
    struct fi_info *hints = NULL;
    struct link *link = calloc(1, sizeof *link);
    if (link == NULL) return result;
    link->flags = knows_delivery((const char *)provider, (const char *)node) ? FI_DELIVERY_COMPLETE : FI_TRANSMIT_COMPLETE;
    hints = wishes((const char *)provider, link->flags);
    if (hints == NULL) goto failed;
    TRY(fi_getinfo(FI_VERSION(1, 17), (const char *)node, NULL, FI_SOURCE, hints, &link->info));
    TRY(fi_fabric(link->info->fabric_attr, &link->fabric, NULL));
    TRY(fi_domain(link->fabric, link->info, &link->domain, NULL));
    struct fi_cq_attr queue = {.size = SLOTS_MAX, .format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_NONE};
    TRY(fi_cq_open(link->domain, &queue, &link->queue, NULL));
    struct fi_av_attr addresses = {.type = FI_AV_TABLE, .count = 1};
    TRY(fi_av_open(link->domain, &addresses, &link->addresses, NULL));
    TRY(fi_endpoint(link->domain, link->info, &link->endpoint, NULL));
    TRY(fi_ep_bind(link->endpoint, &link->addresses->fid, 0));
    TRY(fi_ep_bind(link->endpoint, &link->queue->fid, FI_TRANSMIT | FI_RECV));
    TRY(fi_enable(link->endpoint));
    if (!is_prepared) replace_import("libfabric.so", "pthread_spin_lock", (void *)lock_or_give_up);
    is_prepared = 1;
    result = register_memory(link, source, source_bytes, FI_WRITE, 1, &link->source);
    if (result < 0) goto failed;
    result = register_memory(link, target, target_bytes, FI_REMOTE_WRITE, 2, &link->target);
    if (result < 0) goto failed;
    link->source_key = fi_mr_desc(link->source);
    link->target_base = link->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR ? (uint64_t)target : 0;
    fi_freeinfo(hints);
    return (int64_t)(intptr_t)link;
failed:
    if (hints) fi_freeinfo(hints);
    exchange_fabric_close((int64_t)(intptr_t)link);
    return result;
}

/* What the peer must know: the target's address and key, 16 bytes, and then the endpoint's name. The size of all. */
API int64_t exchange_fabric_describe(int64_t handle, int64_t room, int64_t room_bytes) {
    struct link *link = (struct link *)handle;
    int64_t result;
    uint64_t words[2] = {link->target_base, fi_mr_key(link->target)};
    size_t size = (size_t)room_bytes - sizeof words;
    memcpy((void *)room, words, sizeof words);
    TRY(fi_getname(&link->endpoint->fid, (char *)room + sizeof words, &size));
    return (int64_t)(sizeof words + size);
failed:
    return result;
}

/* Whether a copy that is done is in the peer's memory by the provider's own word (FI_DELIVERY_COMPLETE); 0 if it says what
 * its transport says (FI_TRANSMIT_COMPLETE): with verbs, that the peer's card has acknowledged it. */
API int64_t exchange_fabric_delivers(int64_t handle) {
    return ((struct link *)handle)->flags == FI_DELIVERY_COMPLETE;
}

/* Whom to write to: what the peer's exchange_fabric_describe() gave. */
API int64_t exchange_fabric_connect(int64_t handle, int64_t peer) {
    struct link *link = (struct link *)handle;
    uint64_t words[2];
    memcpy(words, (void *)peer, sizeof words);
    link->peer_target = words[0];
    link->peer_key = words[1];
    if (fi_av_insert(link->addresses, (char *)peer + sizeof words, 1, &link->peer, 0, NULL) == 1) return 0;
    snprintf(error_text, sizeof error_text, "fi_av_insert: the peer's name is none");
    return -EINVAL;
}

static int64_t outcome(struct link *link, int64_t result) {
    is_in_call = 0;
    if (LIKELY(!has_taken_by_force)) return result;
    has_taken_by_force = 0;
    link->is_lost = 1;
    return -EOWNERDEAD;
}

/* --8<-- [start:write] */
/* Begin to copy: 1, or 0 if the provider takes nothing now. `slot` is what reap will give. */
API int64_t exchange_fabric_write(int64_t handle, int64_t source, int64_t size, int64_t offset, int64_t slot) {
    struct link *link = (struct link *)handle;
    if (link->is_lost) return -EOWNERDEAD;
    struct iovec from = {(void *)source, (size_t)size};
    struct fi_rma_iov to = {link->peer_target + (uint64_t)offset, (size_t)size, link->peer_key};
    struct fi_msg_rma message = {.msg_iov = &from, .desc = &link->source_key, .iov_count = 1, .addr = link->peer,
                                 .rma_iov = &to, .rma_iov_count = 1, .context = &link->contexts[slot % SLOTS_MAX]};
    is_in_call = 1;
    ssize_t result = fi_writemsg(link->endpoint, &message, link->flags | FI_COMPLETION);
    return outcome(link, result == 0 ? 1 : result == -FI_EAGAIN ? 0 : result);
}
/* --8<-- [end:write] */

/* Go on, and write the slots of what is done to `slots`, up to COMPLETIONS of them; how many. */
API int64_t exchange_fabric_reap(int64_t handle, int64_t slots) {
    struct link *link = (struct link *)handle;
    if (link->is_lost) return -EOWNERDEAD;
    struct fi_cq_entry entries[COMPLETIONS];
    is_in_call = 1;
    ssize_t count = fi_cq_read(link->queue, entries, COMPLETIONS);
    if (LIKELY(count == -FI_EAGAIN)) return outcome(link, 0);
    if (count == -FI_EAVAIL) {
        struct fi_cq_err_entry failure = {0};
        count = fi_cq_readerr(link->queue, &failure, 0) == 1 && failure.err > 0 ? -failure.err : -EIO;
    }
    for (ssize_t index = 0; index < count; index++)
        ((int64_t *)slots)[index] = (struct fi_context2 *)entries[index].op_context - link->contexts;
    return outcome(link, count);
}
