{{- define "llmendpoint.dashboardName" -}}
{{- printf "%s-dashboard" (include "llmendpoint.fullname" . | trunc 53 | trimSuffix "-") -}}
{{- end -}}

{{- define "llmendpoint.dashboardServiceAccountName" -}}
{{- if .Values.dashboard.serviceAccount.create -}}
{{- default (include "llmendpoint.dashboardName" .) .Values.dashboard.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.dashboard.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "llmendpoint.dashboardSelectorLabels" -}}
app.kubernetes.io/name: {{ include "llmendpoint.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: dashboard
{{- end -}}

{{- define "llmendpoint.dashboardLabels" -}}
{{ include "llmendpoint.dashboardSelectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: llmendpoint
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Refuses values with which the dashboard would be open to strangers, or would not start */}}
{{- define "llmendpoint.dashboardChecks" -}}
{{- with .Values.dashboard -}}
{{- $port := printf "kubectl --namespace %s port-forward service/%s %v" $.Release.Namespace (include "llmendpoint.dashboardName" $) .service.port -}}
{{- if and (eq .auth.mode "None") .ingress.enabled -}}
{{- fail (printf "dashboard.auth.mode None with dashboard.ingress.enabled would show the dashboard to everyone who can reach the Ingress; set dashboard.auth.mode to Token or Header, or disable the Ingress and use: %s" $port) -}}
{{- end -}}
{{- if and (eq .auth.mode "None") (ne .service.type "ClusterIP") -}}
{{- fail (printf "dashboard.auth.mode None with dashboard.service.type %s would show the dashboard to everyone outside the cluster who can reach the port; set dashboard.auth.mode to Token or Header, or use ClusterIP and: %s" .service.type $port) -}}
{{- end -}}
{{- if and (eq .auth.mode "Token") (not .auth.secretKeyRef.name) -}}
{{- fail (printf "dashboard.auth.mode Token requires dashboard.auth.secretKeyRef.name, a Secret with the token; create it with: kubectl --namespace %s create secret generic llmendpoint-dashboard --from-literal=%s=\"$(openssl rand -hex 32)\"" $.Release.Namespace .auth.secretKeyRef.key) -}}
{{- end -}}
{{- if and (eq .auth.mode "Header") (not .auth.header.trustedProxies) -}}
{{- fail "dashboard.auth.mode Header requires dashboard.auth.header.trustedProxies, the addresses of the proxy in front, such as 10.244.0.0/16; from other addresses, everyone could set the header" -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{- fail "dashboard.ingress.enabled requires dashboard.ingress.host, the host name of the dashboard" -}}
{{- end -}}
{{- end -}}
{{- end -}}
