/* `hone lineage`: a tree from what a stage made down to what it was made of. */
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/report_internal.h"

#define MAX_DEPTH 64
#define SHORT_HASH 12   /* digits shown */

enum node_kind { NODE_STAGE, NODE_CHECKPOINT, NODE_DATASET, N_NODE_KINDS };
static const char *const kind_names[] = {"stage", "checkpoint", "dataset"};

struct node {
    enum node_kind kind;
    int64_t id;
};
struct node_list {
    struct node *items;
    size_t n;
};

struct lineage {
    struct report *report;
    struct text *out;
    struct node_list seen;
};

static void add_node(struct node_list *list, enum node_kind kind, int64_t id)
{
    list->items = mem_resize(list->items, list->n + 1, sizeof(*list->items));
    list->items[list->n++] = (struct node){kind, id};
}

static int holds_node(const struct node_list *list, struct node node)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->items[i].kind == node.kind && list->items[i].id == node.id)
            return 1;
    return 0;
}

/* Adds what the query gives: columns kind, id. */
static int add_nodes(struct lineage *lineage, struct node_list *list, const char *query,
                     const char *kind, int64_t id)
{
    struct sql *sql = &lineage->report->sql;
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(sql, &row, query, SQL_VALUES(sql_text(kind), sql_int(id))));
    TRY(sql_next(sql, row, &more));
    while (more) {
        for (int k = 0; k < N_NODE_KINDS; k++)
            if (!strcmp(sql_column_text(row, 0), kind_names[k]))
                add_node(list, (enum node_kind)k, sqlite3_column_int64(row, 1));
        TRY(sql_next(sql, row, &more));
    }
    return STATUS_OK;
}

/* An edge from something to its own stage says "from all that the stage comes from". */
#define OWN_STAGE                                                                                  \
    " CASE ?1 WHEN 'checkpoint' THEN (SELECT stage_id FROM checkpoint WHERE id = ?2)"              \
    " WHEN 'dataset' THEN (SELECT stage_id FROM dataset WHERE id = ?2) END"

static const char edges_of_node[] =
    "SELECT parent_kind, parent_id FROM parent WHERE child_kind = ?1 AND child_id = ?2"
    " AND NOT (parent_kind = 'stage' AND parent_id IS" OWN_STAGE ")"
    " ORDER BY parent_kind, parent_id";
static const char edges_of_own_stage[] =
    "SELECT parent_kind, parent_id FROM parent WHERE child_kind = 'stage' AND child_id IS" OWN_STAGE
    " AND NOT (parent_kind = ?1 AND parent_id = ?2) ORDER BY parent_kind, parent_id";

/* Its last checkpoint, and the datasets that are no part of what that comes from. */
static const char products_of_stage[] =
    "SELECT * FROM (SELECT 'checkpoint', id FROM checkpoint WHERE ?1 = 'stage' AND stage_id = ?2"
    " ORDER BY step DESC LIMIT 1)"
    " UNION ALL SELECT 'dataset', id FROM dataset WHERE ?1 = 'stage' AND stage_id = ?2"
    " AND NOT EXISTS (SELECT 1 FROM parent WHERE parent_kind = 'dataset' AND parent_id = dataset.id"
    "  AND ((child_kind = 'stage' AND child_id = ?2) OR (child_kind = 'checkpoint' AND child_id IN"
    "   (SELECT id FROM checkpoint WHERE stage_id = ?2))))";

static int list_parents(struct lineage *lineage, struct node node, struct node_list *list)
{
    const char *kind = kind_names[node.kind];

    if (node.kind == NODE_STAGE)
        TRY(add_nodes(lineage, list, products_of_stage, kind, node.id));
    if (!list->n)
        TRY(add_nodes(lineage, list, edges_of_node, kind, node.id));
    if (!list->n && node.kind != NODE_STAGE)
        TRY(add_nodes(lineage, list, edges_of_own_stage, kind, node.id));
    return STATUS_OK;
}

static const char *const label_queries[N_NODE_KINDS] = {
    "SELECT printf('%s  (%s, %s)  config %.12s', name, kind, state, config_hash)"
    " FROM stage WHERE id = ?",
    "SELECT printf('checkpoint of %s, step %d  %.12s  %s', stage.name, step, digest, path)"
    " FROM checkpoint JOIN stage ON stage.id = stage_id WHERE checkpoint.id = ?",
    "SELECT printf('dataset of %s, %d rows of %s  %.12s  %s', stage.name, n_rows, format, digest,"
    " path) FROM dataset JOIN stage ON stage.id = stage_id WHERE dataset.id = ?",
};

static int print_label(struct lineage *lineage, struct node node, const char *indent,
                       const char *branch, const char *tail)
{
    struct sql *sql = &lineage->report->sql;
    struct text label = {0};
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(sql, &row, label_queries[node.kind], SQL_VALUES(sql_int(node.id))));
    TRY(sql_next(sql, row, &more));
    if (more)
        text_print(&label, "%s%s%s", sql_column_text(row, 0), *tail ? "  " : "", tail);
    else
        text_print(&label, "%s %lld is not in the file any more", kind_names[node.kind],
                   (long long)node.id);
    if (more)
        sql_finish(row);
    text_print(lineage->out, "%s%s", indent, branch);
    report_indented(lineage->out, "", label.data);
    text_release(&label);
    return STATUS_OK;
}

static int print_parents(struct lineage *lineage, struct node node, const char *indent, int depth);

static int print_parent(struct lineage *lineage, struct node node, const char *indent, int is_last,
                        int depth)
{
    struct text deeper = {0};
    int seen = holds_node(&lineage->seen, node);

    text_print(&deeper, "%s%s", indent, is_last ? "    " : "│   ");
    int status = print_label(lineage, node, indent, is_last ? "└── " : "├── ",
                             seen ? "(shown above)" : "");
    if (status == STATUS_OK && !seen && depth < MAX_DEPTH)
        status = print_parents(lineage, node, deeper.data, depth + 1);
    text_release(&deeper);
    return status;
}

static int print_parents(struct lineage *lineage, struct node node, const char *indent, int depth)
{
    struct node_list list = {0};

    add_node(&lineage->seen, node.kind, node.id);
    int status = list_parents(lineage, node, &list);
    for (size_t i = 0; i < list.n && status == STATUS_OK; i++)
        status = print_parent(lineage, list.items[i], indent, i + 1 == list.n, depth);
    mem_free(list.items);
    return status;
}

static int print_stage(struct lineage *lineage, int64_t id)
{
    struct node node = {NODE_STAGE, id};

    text_print(lineage->out, "\n");
    TRY(print_label(lineage, node, "", "", ""));
    return print_parents(lineage, node, "", 0);
}

static int print_run(struct lineage *lineage)
{
    struct sql *sql = &lineage->report->sql;
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(sql, &row,
                "SELECT name, seed, code_version, config_hash, data_hash, template_hash FROM run",
                NULL, 0));
    TRY(sql_next(sql, row, &more));
    if (!more)
        return STATUS_OK;
    text_print(lineage->out, "run %s  seed %llu  hone %s\n", sql_column_text(row, 0),
               (unsigned long long)sqlite3_column_int64(row, 1), sql_column_text(row, 2));
    text_print(lineage->out, "config %.*s  data %.*s  template %.*s\n", SHORT_HASH,
               sql_column_text(row, 3), SHORT_HASH, sql_column_text(row, 4), SHORT_HASH,
               sql_column_text(row, 5));
    sql_finish(row);
    return STATUS_OK;
}

/* Stages that nothing of another stage comes from: from them the trees reach all others. */
static int list_last_stages(struct lineage *lineage, struct node_list *list)
{
    return add_nodes(lineage, list,
                     "WITH owner (kind, id, stage_id) AS ("
                     " SELECT 'stage', id, id FROM stage"
                     " UNION ALL SELECT 'checkpoint', id, stage_id FROM checkpoint"
                     " UNION ALL SELECT 'dataset', id, stage_id FROM dataset)"
                     " SELECT 'stage', stage.id FROM stage WHERE ?1 IS NULL AND ?2 = 0"
                     " AND NOT EXISTS (SELECT 1 FROM parent"
                     "  JOIN owner AS child ON child.kind = child_kind AND child.id = child_id"
                     "  JOIN owner AS source ON source.kind = parent_kind AND source.id = parent_id"
                     "  WHERE source.stage_id = stage.id AND child.stage_id != stage.id)"
                     " ORDER BY stage.id",
                     NULL, 0);
}

static int print_lineage(struct lineage *lineage, const struct report_stages *stages, int all)
{
    struct node_list roots = {0};
    int status = print_run(lineage);

    if (status == STATUS_OK && all)
        status = list_last_stages(lineage, &roots);
    for (size_t i = 0; !all && i < stages->n; i++)
        add_node(&roots, NODE_STAGE, stages->items[i].id);
    for (size_t i = 0; i < roots.n && status == STATUS_OK; i++)
        status = print_stage(lineage, roots.items[i].id);
    mem_free(roots.items);
    return status;
}

int report_lineage(struct text *out, const char *run, const char *stage)
{
    struct report report = {0};
    struct report_stages stages = {0};
    struct lineage lineage = {.report = &report, .out = out};
    int status;

    TRY_OUT(report_open(&report, run));
    TRY_OUT(report_load_stages(&report, stage, &stages));
    TRY_OUT(print_lineage(&lineage, &stages, stage == NULL));
out:
    mem_free(lineage.seen.items);
    report_release_stages(&stages);
    report_close(&report);
    return status;
}
