# SPDX-License-Identifier: LGPL-2.1-or-later
# Installed as /usr/share/bash-completion/completions/virt-convoy.

_virt_convoy() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local words=

    if [ "$COMP_CWORD" -eq 1 ]; then
        words="status explain check show set validate config restore replay version help"
    else
        case $previous in
        --priority) words="low medium high none" ;;
        --technique) words="pre-copy post-copy hybrid none" ;;
        --state-dir)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
        *)
            case ${COMP_WORDS[1]} in
            status | check) words="--json" ;;
            explain) words="--json $(virsh --quiet list --all --name 2>/dev/null)" ;;
            show) words=$(virsh --quiet list --all --name 2>/dev/null) ;;
            set)
                words="--priority --sla-lower --sla-upper --max-downtime --technique"
                words="$words --deadline --clear"
                words="$words $(virsh --quiet list --all --name 2>/dev/null)"
                ;;
            validate)
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
                return
                ;;
            replay)
                words="--exact --tolerance --json --update"
                mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current"; compgen -f -- "$current")
                return
                ;;
            config) words="--sample --man" ;;
            restore) words="--state-dir" ;;
            esac
            ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _virt_convoy virt-convoy
