#!/bin/sh
# The graph of WordNet 3.0 as `ringfleet_actors::graph::list` reads it, from the database in the folder given, on stdout:
#
#   apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb unpacked
#   sh kernels/actors/data/wordnet.sh unpacked/usr/share/wordnet | gzip -9n > kernels/actors/data/wordnet-3.0.tsv.gz
#
# A vertex is a synset, named by its first word, part of speech and sense: `dog.n.1`. An edge is a relation between synsets or their words; of two
# relations that are each other's inverse it is the one towards the more general, the whole, the domain. Several between the same two are one edge.
set -eu
cd "$1"
LC_ALL=C awk '
FNR == 1 { is_index = FILENAME ~ /^index/ }
# The licence, which every copy carries.
/^  / { if (FILENAME == "data.noun") { sub(/^ +[0-9]+ ?/, ""); sub(/ +$/, ""); licence[++licence_lines] = $0 }; next }
# lemma part synsets symbols symbol.. senses tagged offset..
is_index { for (i = 1; i <= $3; i++) sense[$2, $(6 + $4 + i), $1] = i; next }
# offset file part words(hexadecimal) (word number).. pointers (symbol offset part place)..
{
    part = $3 == "s" ? "a" : $3
    id[part, $1] = count + 0
    word = $5
    sub(/\((a|p|ip)\)$/, "", word)
    name[count + 0] = word "." part "." sense[part, $1, tolower(word)]
    digits = "0123456789abcdef"
    at = 5 + 2 * (16 * index(digits, substr($4, 1, 1)) + index(digits, substr($4, 2, 1)) - 17)
    list = ""
    for (p = at + 1; p < at + 4 * $at; p += 4)
        if ($p !~ /^(~|~i|%m|%s|%p|-c|-r|-u)$/) list = list " " ($(p + 2) == "s" ? "a" : $(p + 2)) SUBSEP $(p + 1)
    to[count++] = list
}
END {
    for (i = 1; i <= licence_lines; i++) print "#" (licence[i] == "" ? "" : " ") licence[i]
    print "vertex\tto"
    for (v = 0; v < count; v++) {
        line = ""
        for (i = split(to[v], targets, " "); i > 0; i--) {
            if (!(targets[i] in id)) { print name[v] " has a pointer to no synset" > "/dev/stderr"; exit 1 }
            target = id[targets[i]]
            if (seen[target] != v + 1) line = target (line == "" ? "" : " ") line
            seen[target] = v + 1
        }
        print name[v] "\t" line
    }
}
' index.noun index.verb index.adj index.adv data.noun data.verb data.adj data.adv
