/* One thread that applies commands and drains their events itself, so that it must never wait for itself.
 *
 *   one_thread COMMANDS EVENTS RING_SLOTS
 */
#include <stdio.h>
#include <stdlib.h>

#include "exchange_book.h"

static void drain(exchange_ring *ring, FILE *file)
{
    exchange_event events[64];
    for (size_t count; (count = exchange_ring_poll(ring, events, 64)) > 0;)
        if (fwrite(events, sizeof *events, count, file) != count)
            abort();
}

/* --8<-- [start:loop] */
static void apply_and_drain(exchange_book *book, exchange_ring *ring, const exchange_command *commands, size_t count,
                            FILE *file)
{
    for (size_t done = 0; done < count;) {
        done += exchange_book_try_apply(book, commands + done, count - done);
        drain(ring, file);
    }
    while (exchange_book_flush(book) > 0)
        drain(ring, file);
    drain(ring, file);
}
/* --8<-- [end:loop] */

int main(int argc, char **argv)
{
    const exchange_book_config config = {
        .symbol_count = 8, .capacity_orders = 20000, .price_min_ticks = 1, .price_max_ticks = (INT64_C(1) << 36) - 1};
    if (argc != 4)
        return EXIT_FAILURE;
    const size_t slots = strtoull(argv[3], NULL, 10);
    void *memory = aligned_alloc(EXCHANGE_RING_ALIGNMENT, exchange_ring_size_bytes(slots));
    exchange_ring *ring = exchange_ring_init(memory, slots);
    exchange_book *book = exchange_book_create(&config);
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (ring == NULL || book == NULL || in == NULL || out == NULL || exchange_book_attach_ring(book, ring) != 0)
        return EXIT_FAILURE;
    exchange_command commands[500];
    for (size_t count; (count = fread(commands, sizeof *commands, 500, in)) > 0;)
        apply_and_drain(book, ring, commands, count, out);
    exchange_book_destroy(book);
    free(memory);
    fclose(in);
    return fclose(out) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
