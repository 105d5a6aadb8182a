/* example.c: play a file of commands through a book, and take its events off the ring on another thread.
 *
 *   cc -O2 example.c -I. -L. -lexchange_book -Wl,-rpath,'$ORIGIN' -pthread -o example
 *   ./example COMMANDS EVENTS [SYMBOLS [CAPACITY_ORDERS [RING_SLOTS [BATCH]]]]
 *
 * COMMANDS holds records of 64 bytes (exchange_command), one after the other. What happened is written to EVENTS in
 * the same way, and a digest of it (FNV-1a, 64 bits) is printed, so that two runs can be compared at a glance.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange_book.h"

/* What the thread that drains the ring knows. */
struct consumer {
    exchange_ring *ring;
    FILE *file;
    uint64_t digest;
    size_t events;
    int finished; /* set, with release, when the producer has published its last event */
};

static uint64_t fnv1a(uint64_t digest, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t index = 0; index < size; index++)
        digest = (digest ^ bytes[index]) * UINT64_C(0x100000001b3);
    return digest;
}

/* Take events from the ring until the producer has finished and the ring is empty. */
static void *drain(void *argument)
{
    struct consumer *consumer = argument;
    for (;;) {
        /* In this order: what was published before "finished" is seen by a peek after it. */
        const int finished = __atomic_load_n(&consumer->finished, __ATOMIC_ACQUIRE);
        const exchange_event *events;
        const size_t count = exchange_ring_peek(consumer->ring, &events);
        if (count > 0) {
            consumer->digest = fnv1a(consumer->digest, events, count * sizeof *events);
            consumer->events += fwrite(events, sizeof *events, count, consumer->file);
            exchange_ring_release(consumer->ring, count);
        } else if (finished) {
            return NULL;
        } else {
            exchange_pause();
        }
    }
}

static void fail(const char *what)
{
    fprintf(stderr, "example: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static exchange_command *read_commands(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        fail(path);
    *count = (size_t)ftell(file) / sizeof(exchange_command);
    rewind(file);
    exchange_command *commands = malloc((*count + 1) * sizeof *commands);
    if (commands == NULL || fread(commands, sizeof *commands, *count, file) != *count)
        fail(path);
    fclose(file);
    return commands;
}

static void print_top(const exchange_book *book, uint32_t symbol_id)
{
    int64_t price = 0, quantity = 0;
    exchange_level levels[3];
    if (exchange_book_best_bid(book, symbol_id, &price, &quantity))
        printf("symbol %u: best bid %lld, %lld lots\n", symbol_id, (long long)price, (long long)quantity);
    if (exchange_book_best_ask(book, symbol_id, &price, &quantity))
        printf("symbol %u: best ask %lld, %lld lots\n", symbol_id, (long long)price, (long long)quantity);
    const size_t count = exchange_book_depth(book, symbol_id, EXCHANGE_SIDE_BUY, 3, levels);
    for (size_t index = 0; index < count; index++)
        printf("symbol %u: bid %zu: %lld, %lld lots\n", symbol_id, index + 1, (long long)levels[index].price_ticks,
               (long long)levels[index].quantity_lots);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s COMMANDS EVENTS [SYMBOLS [CAPACITY_ORDERS [RING_SLOTS [BATCH]]]]\n", argv[0]);
        return 2;
    }
    if (exchange_abi() != EXCHANGE_ABI) {
        fprintf(stderr, "example: the library is not the one that this header belongs to\n");
        return EXIT_FAILURE;
    }
    const size_t ring_slots = argc > 5 ? strtoull(argv[5], NULL, 10) : 65536;
    const size_t batch = argc > 6 ? strtoull(argv[6], NULL, 10) : 64;
    const exchange_book_config config = {
        .symbol_count = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1,
        .capacity_orders = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 262144,
        .price_min_ticks = 1,
        .price_max_ticks = (INT64_C(1) << 36) - 1,
        .publish_every = 32,
    };
    size_t count;
    exchange_command *commands = read_commands(argv[1], &count);

    /* Memory for the ring is yours: here from the heap. exchange_ring_init refuses what does not serve. */
    const size_t ring_bytes = exchange_ring_size_bytes(ring_slots);
    void *memory = ring_bytes == 0 ? NULL : aligned_alloc(EXCHANGE_RING_ALIGNMENT, ring_bytes);
    exchange_ring *ring = exchange_ring_init(memory, ring_slots);
    if (ring == NULL)
        fail("ring");
    exchange_book *book = exchange_book_create(&config);
    if (book == NULL)
        fail("book");
    if (exchange_book_attach_ring(book, ring) != 0)
        fail("attach");

    struct consumer consumer = {.ring = ring, .file = fopen(argv[2], "wb"), .digest = UINT64_C(0xcbf29ce484222325)};
    pthread_t thread;
    if (consumer.file == NULL)
        fail(argv[2]);
    if ((errno = pthread_create(&thread, NULL, drain, &consumer)) != 0)
        fail("thread");

    for (size_t done = 0; done < count; done += batch)
        exchange_book_apply(book, commands + done, batch < count - done ? batch : count - done);
    exchange_book_flush(book); /* fewer than publish_every may be left */
    __atomic_store_n(&consumer.finished, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);

    printf("commands %zu\nevents %zu\ndigest %016llx\nlive orders %zu\nwaited for room %lld times\n", count,
           consumer.events, (unsigned long long)consumer.digest, exchange_book_live_order_count(book),
           (long long)ring->refused);
    print_top(book, 0);
    if (fclose(consumer.file) != 0)
        fail(argv[2]);
    exchange_book_destroy(book);
    free(memory);
    free(commands);
    return 0;
}
