/* recipes.h: settings of whole experiments under a name.
 *
 * A recipe is a text of sections, one a command: [learn-ids], [train search], [train recommend], [train] for both tasks, [evaluate], each with
 * lines `name = value` whose names are options of that command; # begins a comment, and the first line is a comment that says what it is.
 * Those of schema/recipes/ lie inside the program; --recipe also takes a file. A value of the recipe stands above a config file and below the
 * environment and flags. A recipe is checked whole whichever command reads it: a bad line is named with file, line and the nearest name. */
#ifndef SEMINDEX_RECIPES_H
#define SEMINDEX_RECIPES_H

#include "options.h"

struct recipe {
    const char *name, *text;
};
extern const struct recipe recipe_table[];
extern const int recipe_count;

/* Puts the values of o's --recipe for `command` (and its task, the first argument) into o. ERR_CONFIG names file and line; an unknown recipe is
 * ERR_USAGE with the nearest name; so is one without a section for this command. */
int recipe_apply(struct options *o, unsigned command, struct err *e);

#endif
