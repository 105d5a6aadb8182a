/* How the book is put into somebody else's benchmark harness: one that calls a function for each message and drains
 * the reports on another core. The first half is the adapter; the second stands in for the harness.
 *
 *   harness_adapter COMMANDS REPORTS RING_SLOTS
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "exchange_book.h"

/* --8<-- [start:adapter] */
struct engine {
    exchange_book *book;
    exchange_ring *ring;
    exchange_command command; /* the parts that never change are set once */
};

/* Before the clock starts. Returns 0 if it could not be done. */
static int engine_create(struct engine *engine, size_t ring_slots)
{
    const exchange_book_config config = {
        .symbol_count = 1,
        .capacity_orders = 262144,
        .price_min_ticks = 1,
        .price_max_ticks = 1000000,
        .publish_every = 32, /* at most so many reports are held back until engine_end_of_burst */
    };
    const size_t ring_bytes = exchange_ring_size_bytes(ring_slots);
    void *memory = ring_bytes == 0 ? NULL : aligned_alloc(EXCHANGE_RING_ALIGNMENT, ring_bytes);
    if (exchange_abi() != EXCHANGE_ABI)
        return 0;
    *engine = (struct engine){.book = exchange_book_create(&config), .ring = exchange_ring_init(memory, ring_slots)};
    return engine->book != NULL && engine->ring != NULL && exchange_book_attach_ring(engine->book, engine->ring) == 0;
}

static void engine_destroy(struct engine *engine)
{
    exchange_book_destroy(engine->book);
    free(engine->ring);
}

static void engine_new(struct engine *engine, int64_t order_id, uint8_t side, int64_t price_ticks, uint32_t lots)
{
    exchange_command *command = &engine->command;
    command->kind = EXCHANGE_COMMAND_NEW;
    command->side = side;
    command->sequence += 1;
    command->order_id = order_id;
    command->price_ticks = price_ticks;
    command->quantity_lots = lots;
    exchange_book_apply(engine->book, command, 1);
}

static void engine_cancel(struct engine *engine, int64_t order_id)
{
    exchange_command *command = &engine->command;
    command->kind = EXCHANGE_COMMAND_CANCEL;
    command->sequence += 1;
    command->order_id = order_id;
    command->quantity_lots = 0; /* all that is left */
    exchange_book_apply(engine->book, command, 1);
}

static void engine_modify(struct engine *engine, int64_t order_id, int64_t price_ticks, uint32_t lots)
{
    exchange_command *command = &engine->command;
    command->kind = EXCHANGE_COMMAND_REPLACE;
    command->sequence += 1;
    command->order_id = order_id;
    command->new_order_id = order_id; /* the order keeps its name */
    command->price_ticks = price_ticks;
    command->quantity_lots = lots;
    exchange_book_apply(engine->book, command, 1);
}

/* When there is nothing to do, and before the clock stops. */
static void engine_end_of_burst(struct engine *engine)
{
    exchange_book_flush(engine->book);
}

/* On the harness's other core: up to limit reports, where they lie. engine_reports_done gives them back. */
static size_t engine_reports(struct engine *engine, const exchange_event **reports)
{
    return exchange_ring_peek(engine->ring, reports);
}

static void engine_reports_done(struct engine *engine, size_t count)
{
    exchange_ring_release(engine->ring, count);
}
/* --8<-- [end:adapter] */

struct drain {
    struct engine *engine;
    FILE *file;
    int finished; /* set when the last message has been sent */
};

static void *drain_reports(void *argument)
{
    struct drain *drain = argument;
    for (;;) {
        const int finished = __atomic_load_n(&drain->finished, __ATOMIC_ACQUIRE);
        const exchange_event *reports;
        const size_t count = engine_reports(drain->engine, &reports);
        if (count == 0 && finished)
            return NULL;
        if (fwrite(reports, sizeof *reports, count, drain->file) != count)
            abort();
        engine_reports_done(drain->engine, count);
    }
}

int main(int argc, char **argv)
{
    struct engine engine;
    if (argc != 4 || !engine_create(&engine, strtoull(argv[3], NULL, 10)))
        return EXIT_FAILURE;
    FILE *file = fopen(argv[1], "rb");
    struct drain drain = {.engine = &engine, .file = fopen(argv[2], "wb")};
    pthread_t thread;
    if (file == NULL || drain.file == NULL || pthread_create(&thread, NULL, drain_reports, &drain) != 0)
        return EXIT_FAILURE;
    exchange_command message;
    while (fread(&message, sizeof message, 1, file) == 1) {
        if (message.kind == EXCHANGE_COMMAND_NEW)
            engine_new(&engine, message.order_id, message.side, message.price_ticks, message.quantity_lots);
        else if (message.kind == EXCHANGE_COMMAND_CANCEL)
            engine_cancel(&engine, message.order_id);
        else
            engine_modify(&engine, message.order_id, message.price_ticks, message.quantity_lots);
    }
    engine_end_of_burst(&engine);
    __atomic_store_n(&drain.finished, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    fclose(file);
    fclose(drain.file);
    engine_destroy(&engine);
    return EXIT_SUCCESS;
}
