# The programs of a page of docs/, each to a file of its own: awk -v to=FOLDER -f programs.awk PAGE.
#
# A ```c block with a main is a program, FOLDER/<page>-<n>.c. So is a block behind a line <!-- program: NAME -->, which shows the middle
# of one (NAME expanded: drawn with what is in it): FOLDER/<page>.NAME.c is that block as the body of a main, from the first line that makes a module or a builder on;
# what stands before is outside of it. The program checks that model is there, and y where there is one, draws model where it is
# given a file's name, and frees it. A ```text block behind a program is what it prints: the same name with .txt.
BEGIN {
    page = ARGV[1]
    sub(/.*\//, "", page)
    sub(/\.md$/, "", page)
}
/^<!-- program: [a-z0-9_]+( expanded)? -->$/ {
    name = $3
    draw = $4 == "expanded" ? "argv[1], .expand = true" : "argv[1]"
    next
}
/^```c$/ { inside = 1; text = ""; first = FNR; outside = ""; body = ""; next }
/^```text$/ && made { printing = 1; printf "" >(made ".txt"); next }
/^```$/ && inside {
    inside = 0
    made = ""
    if (name != "") {
        made = to "/" page "." name
        file = made ".c"
        printf "#include <flodl/flodl.h>\n#line %d \"%s\"\n%s\n", first + 1, FILENAME, outside >file
        printf "int main(int argc, char **argv)\n{\n    FDL_SCOPE;\n    FDL_CHECK(fdl_manual_seed(0));\n" >file
        printf "#line %d \"%s\"\n%s", began, FILENAME, body >file
        if (body ~ /fdl_tensor \*y = /)
            printf "    FDL_NEED(y);\n" >file
        printf "    FDL_NEED(model);\n    if (argc > 1)\n        FDL_CHECK(fdl_graph_svg(model, " draw "));\n" >file
        printf "    FDL_CHECK(fdl_module_free(model));\n    return 0;\n}\n" >file
        close(file)
    } else if (text ~ /\nint main\(/) {
        made = to "/" page "-" ++n
        printf "#line %d \"%s\"\n%s", first + 1, FILENAME, text >(made ".c")
        close(made ".c")
    }
    name = ""
    next
}
/^```$/ && printing { printing = 0; close(made ".txt"); made = ""; next }
inside {
    text = text $0 "\n"
    begins = /^fdl_(module|flow_builder) \*[a-z]+ = /
    if (begins && body == "")
        began = FNR
    if (body != "" || begins)
        body = body $0 "\n"
    else
        outside = outside $0 "\n"
    next
}
printing { print >(made ".txt"); next }
/[^ \t]/ { made = "" }
