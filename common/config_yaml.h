/* common/config_yaml.h - the tree behind common/config.h. Private to config.c, config_yaml.c. */
#ifndef HONE_COMMON_CONFIG_YAML_H
#define HONE_COMMON_CONFIG_YAML_H

#include "common/config.h"

enum node_kind { NODE_SCALAR, NODE_MAPPING, NODE_SEQUENCE };

struct config_node {
    enum node_kind kind;
    char *key;      /* in a mapping; else NULL */
    char *scalar;   /* of a NODE_SCALAR */
    size_t line;
    struct config_node **children;
    size_t n;
};

#endif
