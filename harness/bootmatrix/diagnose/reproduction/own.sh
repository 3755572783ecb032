# A guest that is not ours says a word of its own when it is up, and again where somebody types
# Enter: UP, a regular expression.
told() { said "$1" | tr -d '\r' | grep -aP -- "$UP" | tail -n 1 | grep .; }
is_up() { told "$1" >/dev/null || ! alive "$1"; }
is_here() { is_up "$1"; }
question() { type_at "$1" $'\r'; }
