/*
 * pipeline/schema.h - the tables of run.db. Private to run_store*.c and report*.c.
 *
 * docs/formats.md says what each column means; a change here is a new SCHEMA_VERSION there.
 */
#ifndef HONE_PIPELINE_SCHEMA_H
#define HONE_PIPELINE_SCHEMA_H

#include "pipeline/run_store_sql.h"

#define SCHEMA_VERSION 1                   /* PRAGMA user_version */
#define SCHEMA_APPLICATION_ID 0x686f6e65   /* PRAGMA application_id: "hone" */

/* Creates the tables in an empty file; refuses one of another program or version. */
int schema_prepare(struct sql *sql);
/* The check alone, for readers; an empty file is refused too. */
int schema_check(struct sql *sql);

#endif
