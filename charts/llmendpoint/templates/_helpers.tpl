{{- define "llmendpoint.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "llmendpoint.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llmendpoint.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "llmendpoint.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "llmendpoint.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llmendpoint.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "llmendpoint.testLabels" -}}
app.kubernetes.io/name: {{ include "llmendpoint.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "llmendpoint.labels" -}}
{{ include "llmendpoint.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: llmendpoint
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The policy without rules that allow everything, or nothing if no rule is left */}}
{{- define "llmendpoint.policy" -}}
{{- $rules := dict -}}
{{- range $name, $allowed := .Values.operator.policy -}}
{{- if not (kindIs "invalid" $allowed) -}}{{- $_ := set $rules $name $allowed -}}{{- end -}}
{{- end -}}
{{- if $rules -}}{{- toYaml $rules -}}{{- end -}}
{{- end -}}

{{/* One image reference: (dict "image" .Values.x.image "default" .Chart.AppVersion) */}}
{{- define "llmendpoint.image" -}}
{{- $path := .image.repository -}}
{{- if .image.registry -}}{{- $path = printf "%s/%s" .image.registry .image.repository -}}{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $path .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $path (default .default .image.tag) -}}
{{- end -}}
{{- end -}}
