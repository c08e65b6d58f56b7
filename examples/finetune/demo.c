/* SPDX-License-Identifier: Apache-2.0 */
#include "demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "demo_answers.h"
#include "plot.h"
#include "text/tokenizer.h"

#define FOLDER "finetune-demo"
#define PICTURE FOLDER "/curves.svg"

/* Behind the program's name; words between single spaces. */
static const char pretrain[] =
    "--model " FOLDER "/base --tokenizer bytes --data " FOLDER
    "/pretrain.jsonl --eval-file " FOLDER "/heldout.jsonl --objective sft "
    "--steps 200 --batch 64 --lr 6e-3 --save-every 200 --keep 1 "
    "--out " FOLDER "/start";
static const char compare[] =
    "--model " FOLDER "/start/final --tokenizer bytes --data " FOLDER
    "/train.jsonl --eval-file " FOLDER "/heldout.jsonl "
    "--objective sft,dft,cadft --epochs 3 --batch 64 --lr 1e-3 "
    "--second-moment 64 --save-every 200 --keep 1 --out " FOLDER "/runs";

typedef struct answered {
    const char *name, *model;
} answered;

static const answered models[] = {{"start", FOLDER "/start/final"},
                                  {"sft", FOLDER "/runs/sft/final"},
                                  {"dft", FOLDER "/runs/dft/final"},
                                  {"cadft", FOLDER "/runs/cadft/final"}};

enum { WORDS = 40, FAILED = 1 };

/* Show a command, so that it can be repeated and changed, and run it. */
static int run(const char *program, demo_finetune_fn finetune, const char *args)
{
    char *argv[WORDS + 1] = {NULL}, *at = NULL;
    char *name = strdup(program), *copy = strdup(args);
    int argc = 1, status = FAILED;
    printf("\n$ %s %s\n\n", program, args);
    fflush(stdout);
    argv[0] = name;
    if (name && copy) {
        for (char *word = strtok_r(copy, " ", &at); word && argc < WORDS;
             word = strtok_r(NULL, " ", &at))
            argv[argc++] = word;
        status = finetune(argc, argv);
    } else {
        fprintf(stderr, "finetune: out of memory for a command\n");
    }
    free(name);
    free(copy);
    return status;
}

/* What a user of the models would look at. */
static int show_answers(text_error *error)
{
    text_data_options options = {0};
    text_data data = {0};
    int status = tokenizer_open("bytes", NULL, &options.tokenizer, error);
    if (status == TEXT_OK)
        status =
            text_data_read(FOLDER "/heldout.jsonl", &options, &data, error);
    if (status == TEXT_OK)
        printf("\nanswers to %zu held-out questions that are right, greedy "
               "decoding\n",
               data.n);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        double share = 0;
        if (status == TEXT_OK)
            status = demo_answers(models[i].model, &data, &share, error);
        if (status == TEXT_OK)
            printf("%-9s %5.1f %%\n", models[i].name, 100 * share);
        fflush(stdout);
    }
    text_data_free(&data);
    tokenizer_close(options.tokenizer);
    return status;
}

/* Without gnuplot the demonstration is complete but for the picture. */
static void show_picture(const char *program)
{
    static const char *const runs[] = {FOLDER "/runs"};
    text_error error;
    if (plot_from(PICTURE, runs, 1, &error) == TEXT_OK)
        printf("\ncurves: " PICTURE "; again, as you like it:\n"
               "$ %s --plot curves.png --from " FOLDER "/runs\n",
               program);
    else
        fprintf(stderr, "finetune: %s\n", error.message);
}

int demo_run(const char *program, demo_finetune_fn finetune)
{
    text_error error;
    printf("A demonstration in ./" FOLDER ", about a minute on two cores: a "
           "small model\nlearns arithmetic, a third of it from demonstrations "
           "that do not match.\n");
    if (demo_prepare(FOLDER, &error) != TEXT_OK) {
        fprintf(stderr, "finetune: %s\n", error.message);
        return FAILED;
    }
    int status = run(program, finetune, pretrain);
    if (status == 0)
        status = run(program, finetune, compare);
    if (status != 0)
        return status;
    if (show_answers(&error) != TEXT_OK) {
        fprintf(stderr, "finetune: %s\n", error.message);
        return FAILED;
    }
    show_picture(program);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    fprintf(stderr, "finetune: the output cannot be written\n");
    return FAILED;
}
