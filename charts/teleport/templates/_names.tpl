{{/* Names, labels and annotations of the release's objects. */}}

{{- define "teleport.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of a component's objects: (dict "root" $ "name" "auth"). */}}
{{- define "teleport.component" -}}
{{- printf "%s-%s" (include "teleport.fullname" .root) .name -}}
{{- end -}}

{{/* Of objects without a namespace: two releases may share a name. */}}
{{- define "teleport.clusterwide" -}}
{{- printf "%s-%s" .Release.Namespace (include "teleport.fullname" .) -}}
{{- end -}}

{{- define "teleport.clusterName" -}}
{{- default .Release.Name .Values.clusterName -}}
{{- end -}}

{{- define "teleport.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "teleport.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ default .root.Chart.AppVersion .root.Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: teleport
{{ include "teleport.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata that all objects share, without name and namespace. */}}
{{- define "teleport.metadata" -}}
labels:
  {{- include "teleport.labels" . | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "teleport.serviceAccountName" -}}
{{- if .values.serviceAccount.create -}}
{{- default (include "teleport.component" .) .values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Whether auth's state is in its own pod's volume, with the operator beside it; empty if not. */}}
{{- define "teleport.embedded" -}}
{{- if eq .Values.storage.type "sqlite" }}true{{ end -}}
{{- end -}}

{{- define "teleport.hasOperator" -}}
{{- if and .Values.auth.enabled .Values.operator.enabled }}true{{ end -}}
{{- end -}}

{{/* The name of the Token of proxies or nodes, which is also what its Secret begins with. */}}
{{- define "teleport.joinSecret" -}}
{{- default (printf "%s-token" (include "teleport.component" .)) .values.joinSecretName -}}
{{- end -}}
