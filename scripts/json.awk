# Flattens JSON: one line `path<TAB>value` a scalar, path like result.axes.0.modes. For the report
# files of halfulp, which are well formed: it checks nothing. Linear time if lines are short.
{
  text = $0
  while (match(text, /^[ \t\r\n,:]+/)) text = substr(text, RLENGTH + 1)
  while (length(text)) {
    c = substr(text, 1, 1)
    if (c == "{" || c == "[") {
      ++depth; kind[depth] = c; index_[depth] = 0; key[depth] = ""; have_key[depth] = 0
      text = substr(text, 2)
    } else if (c == "}" || c == "]") {
      --depth; text = substr(text, 2); done()
    } else {
      if (c == "\"") {
        match(text, /^"([^"\\]|\\.)*"/)
        token = substr(text, 2, RLENGTH - 2)
        gsub(/\\"/, "\"", token); gsub(/\\\//, "/", token); gsub(/\\\\/, "\\", token)
      } else {
        match(text, /^[^],}: \t\r\n]+/)
        token = substr(text, 1, RLENGTH)
      }
      text = substr(text, RLENGTH + 1)
      if (kind[depth] == "{" && !have_key[depth]) {
        key[depth] = token; have_key[depth] = 1
      } else {
        path = ""
        for (i = 1; i <= depth; ++i)
          path = path (i > 1 ? "." : "") (kind[i] == "{" ? key[i] : index_[i])
        print path "\t" token
        done()
      }
    }
    if (match(text, /^[ \t\r\n,:]+/)) text = substr(text, RLENGTH + 1)
  }
}
# A value at the current depth is complete.
function done() {
  have_key[depth] = 0
  ++index_[depth]
}
