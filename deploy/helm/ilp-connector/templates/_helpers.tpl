{{- define "connector.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "connector.labels" -}}
app.kubernetes.io/name: ilp-connector
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "connector.selector" -}}
app.kubernetes.io/name: ilp-connector
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Where the ledger is, as TIGERBEETLE_REPLICAS; empty for the embedded one. What is missing is said. */}}
{{- define "connector.replicas" -}}
{{- $ledger := .Values.ledger -}}
{{- if eq $ledger.kind "external" -}}
{{- if not $ledger.replicas }}{{ fail "ledger.replicas: host:port of each replica is needed for ledger.kind external" }}{{ end -}}
{{- join "," $ledger.replicas -}}
{{- else if eq $ledger.kind "single" -}}
{{ include "connector.name" . }}-tigerbeetle:3000
{{- else if ne $ledger.kind "embedded" -}}
{{ fail (printf "ledger.kind: embedded, external or single, not %s" $ledger.kind) }}
{{- end -}}
{{- if and (ne $ledger.kind "embedded") (or (not $ledger.clusterId) (eq (toString $ledger.clusterId) "0")) -}}
{{ fail "ledger.clusterId: a number of your own is needed, quoted, for ever" }}
{{- end -}}
{{- end -}}

{{- define "connector.seccomp" -}}
{{- $type := .Values.seccompProfile.type | default (ternary "RuntimeDefault" "Localhost" (eq .Values.ledger.kind "embedded")) -}}
type: {{ $type }}
{{- if eq $type "Localhost" }}
localhostProfile: {{ .Values.seccompProfile.localhostProfile }}
{{- end }}
{{- end -}}

{{/* A value as the connector reads it. Helm keeps numbers as floating point, and would write 1000000000000 as 1e+12. */}}
{{- define "connector.text" -}}
{{- if kindIs "float64" . -}}
{{- if or (gt . 9007199254740991.0) (lt . -9007199254740991.0) }}{{ fail (printf "%v is too large to be exact: write it in quotes" .) }}{{ end -}}
{{- if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- else if kindIs "slice" . -}}
{{- join "," . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}
